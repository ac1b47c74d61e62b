"""The log that a store is computed from. A store names its log and is not opened for another one."""

from collections.abc import Mapping
from dataclasses import dataclass

Positions = Mapping[tuple[str, int], int]
"""By topic and partition."""


@dataclass(frozen=True, slots=True)
class SourceLog:
    """`id`: unique among logs. `name`: the location of the log, for messages. `ends`: its last positions;
    needed only for a store that names no log."""

    id: str
    name: str
    ends: Positions | None = None


OTHER_DATABASE = (
    "set SIGNALBOX_POSTGRES to another database (an empty one is filled from this log), or drop this one if "
    "it is no longer needed: the documents in it are nowhere else"
)
OTHER_FILE = "move the file out of the directory: it is computed again from this log"


class OtherLog(Exception):
    """The store was computed from another log."""

    def __init__(self, where: str, difference: str, log: SourceLog, remedy: str) -> None:
        super().__init__(
            f"{where} was computed from another log: {difference}. This log is {log.name}. "
            f"To go on, {remedy}."
        )


class Unidentified(Exception):
    """The store has checkpoints and names no log (release 0.1.0): `SourceLog.ends` are needed to compare."""


def difference(checkpoints: Positions, ends: Positions) -> str | None:
    """Why these checkpoints are not of a log with these ends; None if they may be."""
    for (topic, partition), position in sorted(checkpoints.items()):
        end = ends.get((topic, partition))
        if end is None:
            return f"it has a checkpoint of {topic}/{partition}, a partition that this log does not have"
        if position > end:
            return f"its checkpoint of {topic}/{partition} is {position}, where this log ends at {end}"
    topics = {topic for topic, _ in checkpoints}
    for topic, partition in sorted(ends):
        if topic in topics and (topic, partition) not in checkpoints:
            return f"it has no checkpoint of {topic}/{partition}, a partition of this log"
    return None
