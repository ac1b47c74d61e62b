"""The decisions, on the log itself, to skip unreadable records of the event log."""

from schemas.parked import RecordSkipped
from streams.log import Log


def record_subject(partition: int, position: int) -> str:
    """The subject of the decision about a record of the event log."""
    return f"events/{partition}/{position}"


def remedy(partition: int, position: int) -> str:
    """The instructions for a record that stops a partition."""
    return (
        "Nothing is decided in this partition until an operator has handled it. If a later version of "
        "Signalbox wrote it, start that one. If it is not one of Signalbox's events, stop the deciders and "
        f"skip it: `signalbox log skip --partition {partition} --position {position} --reason TEXT`; "
        "operator and reason are stored on the log."
    )


async def skipped(log: Log, partition: int, position: int) -> bool:
    """Whether an operator decided to skip the record. Raises LogUnavailable, LogDamaged."""
    about = await log.read_subject("parked", record_subject(partition, position))
    return any(one.envelope.type == RecordSkipped.type() for one in about)
