"""Whether anything was computed from records that the log does not have: the end of the log is lost then.

The log alone cannot show it: without its journal it is a sound log that ends earlier.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

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
# Whatever is put for a gateway is put in one transaction with the position it was computed from.
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


def computed_positions(directory: Path) -> Iterator[ComputedPosition]:
    """How far the log had been read, according to the files computed from it.

    A file that cannot be read says nothing here: whoever opens it finds out why.
    """
    for file, statement in _COMPUTED.items():
        path = directory / file
        if not path.exists():
            continue
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
                rows = db.execute(statement).fetchall()
        except sqlite3.Error:
            continue
        for topic, partition, position in rows:
            if isinstance(position, int) and isinstance(partition, int):
                yield ComputedPosition(file, str(topic), partition, position)


def beyond(ends: Mapping[Stream, int], computed: Iterable[ComputedPosition]) -> str | None:
    """What of the log is missing, as a sentence; None when it reaches as far as it was read."""
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


def require_reached(directory: Path, ends: Mapping[Stream, int]) -> None:
    """Raises LogDamaged when the log ends before what was computed from it."""
    fault = beyond(ends, computed_positions(directory))
    if fault is not None:
        raise LogDamaged(
            f"{directory / LOG.file}: {fault}. Restore {LOG.file}-wal if it was moved or left out of a copy, "
            f"else the data directory from a backup. If that is lost for good, move {CONFIG} and "
            f"{READ_MODELS} out of the directory: both are computed again from what is left, and everything "
            "decided after that is gone."
        )
