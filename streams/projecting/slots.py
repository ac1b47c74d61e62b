"""What the writer of read models keeps in mind of each generation it fills."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from projections.readmodel import ReadModel
from projections.store import Generation
from streams.log import Record

UNAVAILABLE = (OperationalError, InterfaceError, PoolTimeout, sqlite3.OperationalError, OSError, MemoryError)
"""Failures of the store, not of a record: tried again, never parked."""

Batches = dict[int, Sequence[Record]]
"""Records of one topic by partition, in order."""


class SomebodyElseRuns(Exception):
    """Another runner advances the same read models."""


class UnknownReadModel(LookupError):
    """There is no read model of that name."""


@dataclass(slots=True)
class Slot:
    """A generation being filled: how far it is, and which subjects wait behind which position."""

    model: ReadModel
    generation: Generation
    positions: dict[int, int]
    held: dict[tuple[int, str], int] = field(default_factory=dict[tuple[int, str], int])
