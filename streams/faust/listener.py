"""Who hears of what has become durable in the read models."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from streams.log import Record, Topic


class ProjectionListener(Protocol):
    """Both must be quick and never raise."""

    def assigned(self, places: Mapping[tuple[Topic, int], int]) -> None:
        """These partitions, and no others, are followed from now on; up to which position each is durable."""
        ...

    def taken(self, topic: Topic, partition: int, records: Sequence[Record]) -> None:
        """These records have become durable."""
        ...
