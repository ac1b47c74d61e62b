"""Dead letters: messages that cannot be handled, kept on the topic `parked` with the reason."""

from base64 import b64encode
from dataclasses import replace

import orjson

from schemas.envelope import ATTRIBUTES, Envelope
from schemas.envelopes import envelope_for
from schemas.identity import timestamp
from schemas.parked import MessageParked
from streams.decider.admission import LONGEST_ATTRIBUTE
from streams.log import Fault, Log, MessageTooLarge, Record, Topic


def dead_letter(record: Record, fault: Fault, source: str, now: str, *, whole: bool = True) -> Envelope:
    """The dead letter of a message: its attributes up to LONGEST_ATTRIBUTE characters, and, with `whole`, its
    body."""
    cut = {name: getattr(record.envelope, name)[:LONGEST_ATTRIBUTE] for name in ATTRIBUTES}
    envelope = replace(record.envelope, **cut)
    body = fault.value or (orjson.dumps(envelope.data) if envelope.data else b"")
    message = MessageParked(
        organization=envelope.partitionkey,
        name=envelope.id,
        topic=record.topic,
        partition=record.partition,
        position=record.position,
        of_type=envelope.type,
        about=envelope.subject,
        rule=fault.rule,
        reason=fault.reason[:LONGEST_ATTRIBUTE],
        size=len(body),
        value=b64encode(body).decode() if whole else "",
    )
    return envelope_for(
        message,
        source=source,
        subject=f"{record.topic}/{record.partition}/{record.position}",
        time=now,
        partitionkey=envelope.partitionkey,
        cause=envelope,
    )


class DeadLetterTopic:
    """Appends dead letters to the topic `parked`; `source` is their CloudEvents source."""

    def __init__(self, log: Log, source: str) -> None:
        self._log = log
        self._source = source

    async def add(self, record: Record, fault: Fault) -> None:
        """Appends a dead letter, without the message's body if that is too large. Raises LogUnavailable."""
        now = timestamp()
        try:
            await self._log.append("parked", (dead_letter(record, fault, self._source, now),))
        except MessageTooLarge:
            await self._log.append("parked", (dead_letter(record, fault, self._source, now, whole=False),))


REMOVED = "removed"
"""The rule of messages that the topic's retention removed before they were read."""


def removed_messages(topic: Topic, partition: int, read: int, last: int, source: str, now: str) -> Envelope:
    """The dead letter of messages that retention removed: at the positions after `read`, up to which the
    topic was read (0: unknown), to `last`."""
    known = "" if read else "It is unknown which of them were read, so some may have been decided before. "
    reason = (
        f"The messages at positions {read + 1} to {last} of {topic}/{partition} were removed by the topic's "
        f"retention before they were read: these commands are not decided and have to be sent again. {known}"
        "Set the topic's retention.ms above the longest downtime of deciders."
    )
    nothing = Envelope(id="", type="", source="", subject="", time="", partitionkey="", data={})
    return dead_letter(Record(topic, partition, read + 1, nothing), Fault(REMOVED, reason), source, now)
