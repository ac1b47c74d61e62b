"""Records as a feeder gives them to the writer."""

from collections.abc import Sequence

from streams.log import Record
from streams.projection.progress import Batch, Batches


def batch(records: Sequence[Record]) -> Batches:
    """Records of partition 0 that directly follow one another and what was before."""
    return {0: Batch(records[0].position - 1, records)}
