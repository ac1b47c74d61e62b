"""The listener of records that have become durable in the read models."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from streams.log import Record, Topic


class ProjectionListener(Protocol):
    """Both must be quick and never raise."""

    def assigned(self, positions: Mapping[tuple[Topic, int], int]) -> None:
        """These partitions, and no others, are consumed from now on, after the positions that are durable."""
        ...

    def taken(self, topic: Topic, partition: int, records: Sequence[Record]) -> None:
        """These records have become durable."""
        ...
