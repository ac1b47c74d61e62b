"""Records into the read models of a writer."""

from collections.abc import Sequence

from streams.log import Record, Topic
from streams.projection.progress import Batch
from streams.projection.writer import Writer


def apply(writer: Writer, topic: Topic, records: Sequence[Record]) -> None:
    """One batch of partition 0."""
    writer.apply({topic: {0: Batch(records[0].position - 1, records)}})
