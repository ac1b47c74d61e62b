"""Detects a lost end of the log: files computed from records that the log does not have.

The log alone cannot show this: without its journal it is a sound log that ends earlier.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from projections.source_log import SourceLog
from streams.log import LogDamaged
from streams.sqlite.schema import LOG
from streams.sqlite.writer import Stream

READ_MODELS = "readmodels.db"
CONFIG = "config.db"

_CHECKPOINTS = """
SELECT c.topic, c.partition, max(c.position)
FROM checkpoints c JOIN generations g ON g.read_model = c.read_model AND g.generation = c.generation
WHERE g.state = 'live' GROUP BY c.topic, c.partition
"""
# Config resources and the position that they were computed from are put in one transaction.
_CONFIGURED = """
SELECT 'events', CAST(substr(name, 8) AS INTEGER), position FROM entries
WHERE gateway = '' AND type = 'signalbox.io/position' AND name LIKE 'events/%'
"""
_COMPUTED = {CONFIG: _CONFIGURED, READ_MODELS: _CHECKPOINTS}


@dataclass(frozen=True, slots=True)
class ComputedPosition:
    """`file` was computed from the records of a topic's partition up to `position`."""

    file: str
    topic: str
    partition: int
    position: int


def other_log(directory: Path, log: SourceLog) -> str | None:
    """The name of the log that the read models were computed from, if it is another one."""
    names = _rows(directory / READ_MODELS, "SELECT name FROM source_log WHERE id != ?", (log.id,))
    return str(names[0][0]) if names else None


def computed_positions(directory: Path, log: SourceLog) -> Iterator[ComputedPosition]:
    """The positions up to which `log` had been read, according to the files computed from it.

    Read models of another log are refused when they are opened, and left out here.
    """
    for file, statement in _COMPUTED.items():
        if file == READ_MODELS and other_log(directory, log) is not None:
            continue
        for topic, partition, position in _rows(directory / file, statement):
            if isinstance(position, int) and isinstance(partition, int):
                yield ComputedPosition(file, str(topic), partition, position)


def beyond(ends: Mapping[Stream, int], computed: Iterable[ComputedPosition]) -> str | None:
    """The missing part of the log, as a sentence; None when nothing is missing."""
    wanted: dict[tuple[str, int], ComputedPosition] = {}
    known = {(str(topic), partition): end for (topic, partition), end in ends.items()}
    for one in computed:
        place = (one.topic, one.partition)
        before = wanted.get(place)
        if one.position > known.get(place, 0) and (before is None or before.position < one.position):
            wanted[place] = one
    if not wanted:
        return None
    missing = "; ".join(
        f"{topic}/{partition} ends at position {known.get((topic, partition), 0)}, "
        f"and {one.file} was computed from records up to {one.position}"
        for (topic, partition), one in sorted(wanted.items())
    )
    return f"the end of the log is lost: {missing}"


def _rows(file: Path, statement: str, values: tuple[str, ...] = ()) -> list[Any]:
    """No rows if the file cannot be read: opening it for use reports why."""
    if not file.exists():
        return []
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as db:
            return db.execute(statement, values).fetchall()
    except sqlite3.Error:
        return []


def require_reached(directory: Path, log: SourceLog, ends: Mapping[Stream, int]) -> None:
    """Raises LogDamaged when the log ends before the positions of files computed from it."""
    fault = beyond(ends, computed_positions(directory, log))
    if fault is not None:
        raise LogDamaged(
            f"{directory / LOG.file}: {fault}. Restore {LOG.file}-wal if it was moved or left out of a copy, "
            f"else the data directory from a backup. If that is lost for good, move {CONFIG} and "
            f"{READ_MODELS} out of the directory: both are computed again from the rest, and everything "
            "decided after that is gone."
        )
