"""Validates the context attributes of a command.

Attributes are copied to events and outcomes, which are kept for ever: required ones must be valid, optional
ones (CloudEvents `time`, `traceparent`) are replaced or left out when they are not.
"""

from dataclasses import replace
from operator import attrgetter

from schemas.envelope import Envelope
from schemas.identity import is_traceparent, utc
from schemas.message import is_name
from schemas.text import fault_in, visible
from streams.log import Fault, Record

LONGEST_ATTRIBUTE = 1_000
"""Characters of an attribute that is copied into events and outcomes."""

UNANSWERABLE = Fault(
    "malformed",
    "its id and its partitionkey (the organization) must be names: 1 to 100 letters, digits, dots, hyphens "
    "and underscores",
)

_COPIED = ("type", "subject", "correlationid", "authtype", "authid")


_copied = attrgetter(*_COPIED)


def answerable(command: Envelope) -> bool:
    """Whether an outcome can name the command: ids of outcomes and organizations are names."""
    return is_name(command.id) and is_name(command.partitionkey)


def admitted(record: Record, now: str) -> Envelope | Fault:
    """The command in `record`, normalized, or why its attributes do not allow a decision."""
    if record.fault is not None:
        return record.fault
    command = record.envelope
    if not answerable(command):
        return UNANSWERABLE
    if _all_usable(command):
        return _timed(command, now)
    problem = attribute_problem(command)
    if problem is not None:
        return Fault("malformed", f"{problem[0]}: {problem[1]}")
    return normalized(command, now)


def attribute_problem(command: Envelope) -> tuple[str, str] | None:
    """The first attribute that events and outcomes cannot carry, and why."""
    for name in _COPIED:
        text: str = getattr(command, name)
        if len(text) > LONGEST_ATTRIBUTE:
            return name, f"has {len(text):,} characters; up to {LONGEST_ATTRIBUTE:,} are accepted"
        if fault := fault_in(text):
            return name, fault
    return None


def normalized(command: Envelope, now: str) -> Envelope:
    """The command with attributes that events and outcomes can carry.

    `time` is RFC 3339 in UTC: `now` when the command has none that can be read. A `traceparent` that is not
    W3C Trace Context is left out, as that specification demands. Long attributes are cut, and control
    characters become escapes, so that the outcome of a malformed command can show them.
    """
    cut = {
        name: visible(getattr(command, name)[:LONGEST_ATTRIBUTE])[:LONGEST_ATTRIBUTE]
        for name in _COPIED
        if len(text := getattr(command, name)) > LONGEST_ATTRIBUTE or fault_in(text)
    }
    return _timed(replace(command, **cut) if cut else command, now)


def _timed(command: Envelope, now: str) -> Envelope:
    time = utc(command.time) or now
    traceparent = command.traceparent if is_traceparent(command.traceparent) else ""
    if (time, traceparent) == (command.time, command.traceparent):
        return command
    return replace(command, time=time, traceparent=traceparent)


def _all_usable(command: Envelope) -> bool:
    """Whether all copied attributes are valid, with one check because every command passes here."""
    text = "".join(_copied(command))
    return len(text) <= LONGEST_ATTRIBUTE and fault_in(text) is None
