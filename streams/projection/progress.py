"""The progress of each generation of a read model, as its writer has it in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from projections.readmodel import ReadModel
from projections.store import Generation
from streams.log import Record


@dataclass(frozen=True, slots=True)
class Batch:
    """All records of a topic's partition above `after`, up to the last of `records`."""

    after: int
    records: Sequence[Record]


class ComputedBatch(NamedTuple):
    """The rows of a read model (`projections.readmodel.Computation`) for the records above `after`, up to
    `last`."""

    after: int
    last: int
    rows: Any


Batches = Mapping[int, Batch]
"""Of one topic, by partition."""


class WriterConflict(Exception):
    """Another runner advances the same read models."""


class StaleProgress(WriterConflict):
    """The progress in memory is outdated: the generation was advanced or swapped out, or its dead letters
    were retried."""

    def __init__(self, progress: "GenerationProgress", partition: int) -> None:
        self.read_model = progress.model.name
        self.partition = partition
        at = progress.positions[partition]
        super().__init__(
            f"the read model {self.read_model!r} is no longer at {progress.model.topic}/{partition}:{at}: "
            "another process advances it"
        )


class Gap(Exception):
    """Records before a batch, after `position` and up to `until`, may not have been projected."""

    def __init__(self, progress: "GenerationProgress", partition: int, until: int) -> None:
        self.read_model = progress.model.name
        self.partition = partition
        self.position = progress.positions[partition]
        self.until = until
        super().__init__(
            f"{progress.model.topic}/{partition} is not projected from {self.position} to {until}"
        )


class Superseded(Exception):
    """The read model in the database has a later version than this program supports."""

    def __init__(self, generation: Generation, known: int) -> None:
        super().__init__(
            f"the read model {generation.read_model!r} has version {generation.version} and this program "
            f"has {known}: run the later program, or have this one rebuild it"
        )


class UnknownReadModel(LookupError):
    """There is no read model of that name."""


@dataclass(slots=True)
class GenerationProgress:
    """A generation being filled: its positions, and the subjects that wait behind a dead letter's position.

    `epochs`: per partition, the number of retries of dead letters when this was read.
    """

    model: ReadModel
    generation: Generation
    positions: dict[int, int]
    epochs: dict[int, int]
    blocked: dict[tuple[int, str], int] = field(default_factory=dict[tuple[int, str], int])
