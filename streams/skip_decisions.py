"""Which records on the event log are passed over, because somebody decided so on the log itself."""

from schemas.parked import RecordSkipped
from streams.log import Log


def record_subject(partition: int, position: int) -> str:
    """The subject of what was decided about a record on the event log."""
    return f"events/{partition}/{position}"


def remedy(partition: int, position: int) -> str:
    """What to do about a record that stops a partition, as sentences."""
    return (
        "Nothing is decided in this partition until somebody has looked at it. If a later version of "
        "Signalbox wrote it, start that one. If it is not one of Signalbox's events, stop the deciders and "
        f"skip it: `signalbox log skip --partition {partition} --position {position} --reason TEXT`; who did "
        "so and why is kept on the log."
    )


async def skipped(log: Log, partition: int, position: int) -> bool:
    """Whether somebody decided that the record is passed over. Raises LogUnavailable, LogDamaged."""
    about = await log.read_subject("parked", record_subject(partition, position))
    return any(one.envelope.type == RecordSkipped.type() for one in about)
