"""What the writer of read models keeps in mind of each generation it fills."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from projections.readmodel import ReadModel
from projections.store import Generation
from streams.log import Record


@dataclass(frozen=True, slots=True)
class Batch:
    """All that a topic's partition has above `after`, up to the last of `records`."""

    after: int
    records: Sequence[Record]


Batches = Mapping[int, Batch]
"""Of one topic, by partition."""


class WriterConflict(Exception):
    """Another runner advances the same read models."""


class StaleProgress(WriterConflict):
    """What is kept in mind of a generation is no longer so: it was advanced, swapped out, or parked records
    were taken up again."""

    def __init__(self, slot: "GenerationProgress", partition: int) -> None:
        self.read_model = slot.model.name
        self.partition = partition
        at = slot.positions[partition]
        super().__init__(
            f"the read model {self.read_model!r} is no longer at {slot.model.topic}/{partition}:{at}: "
            "another process advances it"
        )


class Gap(Exception):
    """Before a batch there may be records, after `position` and up to `until`, that were not taken in."""

    def __init__(self, slot: "GenerationProgress", partition: int, until: int) -> None:
        self.read_model = slot.model.name
        self.partition = partition
        self.position = slot.positions[partition]
        self.until = until
        super().__init__(f"{slot.model.topic}/{partition} is not taken in from {self.position} to {until}")


class Superseded(Exception):
    """The read model in the database has a later version than this program knows."""

    def __init__(self, generation: Generation, known: int) -> None:
        super().__init__(
            f"the read model {generation.read_model!r} has version {generation.version} and this program "
            f"knows {known}: run the later one, or have this one rebuild it"
        )


class UnknownReadModel(LookupError):
    """There is no read model of that name."""


@dataclass(slots=True)
class GenerationProgress:
    """A generation being filled: how far it is, and which subjects wait behind which position.

    `releases` is, per partition, how often parked records had been taken up again when this was read.
    """

    model: ReadModel
    generation: Generation
    positions: dict[int, int]
    epochs: dict[int, int]
    blocked: dict[tuple[int, str], int] = field(default_factory=dict[tuple[int, str], int])
