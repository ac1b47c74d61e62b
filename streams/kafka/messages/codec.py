"""Envelopes as messages of the log's topics and back: signed, sealed and verified."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from aiokafka import ConsumerRecord, TopicPartition

from schemas.envelope import Envelope
from schemas.identity import timestamp
from streams.kafka.messages.wire import AUTHORIZATION, decode, encode, forged, signed_body, too_large
from streams.kafka.partition_writer import Message
from streams.kafka.security.authority import Unauthorized
from streams.kafka.security.integrity import Integrity
from streams.kafka.settings import KafkaSettings
from streams.log import TOPICS, Fault, Record, Topic
from streams.partitioner import partition_of

LOG_APPEND_TIME = 1
"""Timestamp type: the broker set the record's time, not its sender."""
_KEY = "use the organization as the message's key and Kafka's default partitioner"


class Authority(Protocol):
    """Signs and verifies commands (`streams.kafka.security.authority`)."""

    def sign(self, envelope: Envelope, body: bytes, /) -> str:
        """The token for a command of this process with the value `body`."""
        ...

    def verify(self, token: str, envelope: Envelope, body: bytes, at: float | None, /) -> Envelope:
        """The command with the sender that the token proves at that time (Unix seconds), or now.

        Raises Unauthorized.
        """
        ...


class Codec:
    """With an `authority`, commands carry a signed token, and one without has a fault; with an `integrity`,
    outcomes carry a MAC, and one without has a fault."""

    def __init__(
        self, settings: KafkaSettings, authority: Authority | None, integrity: Integrity | None
    ) -> None:
        self._settings = settings
        self._authority = authority
        self._integrity = integrity
        self._topics: dict[str, Topic] = {settings.topic(topic): topic for topic in TOPICS}

    def messages(self, topic: Topic, envelopes: Sequence[Envelope], partition: int) -> list[Message]:
        return [self._message(topic, envelope, partition) for envelope in envelopes]

    def _message(self, topic: Topic, envelope: Envelope, partition: int) -> Message:
        value, headers = encode(envelope)
        if topic == "outcomes" and self._integrity is not None:
            headers = self._integrity.sealed(self._settings.topic(topic), partition, value, headers)
        if topic == "commands" and self._authority is not None:
            headers.append((AUTHORIZATION, self._authority.sign(envelope, value).encode()))
        return Message(envelope.partitionkey.encode(), value, headers)

    def record(self, place: TopicPartition, message: ConsumerRecord, size: int) -> Record:
        """The record of a message with `size` bytes of contents."""
        topic = self._topics[place.topic]
        limit = self._settings.max_message
        if topic == "commands" and size > limit:
            # The broker limits the compressed size, not that of the content.
            refused = too_large(topic, place.partition, message.offset + 1, message.headers, size, limit)
            return self._command(refused, "", message)
        if topic == "outcomes" and self._integrity is not None:
            at = (place.topic, place.partition, message.offset)
            if not self._integrity.genuine_sealed(*at, message.value, message.headers):
                self._integrity.refuse(*at)
                return forged(topic, place.partition, message.offset + 1)
        record, token = decode(topic, place.partition, message.offset + 1, message.value, message.headers)
        return record if topic != "commands" else self._command(record, token, message)

    def _command(self, record: Record, token: str, message: ConsumerRecord) -> Record:
        """A verified command, or one with a fault. Kafka's key stands for the extension `partitionkey`."""
        if not record.envelope.partitionkey:
            key = (message.key or b"").decode(errors="replace")
            record = replace(record, envelope=replace(record.envelope, partitionkey=key))
        if not record.envelope.time:
            appended = _appended(message.timestamp)
            record = replace(record, envelope=replace(record.envelope, time=appended))
        if record.fault is not None:
            return record
        wanted = partition_of(record.envelope.partitionkey, self._settings.partitions)
        if wanted != record.partition:
            reason = f"it is in partition {record.partition}, but its organization's is {wanted}: {_KEY}"
            return replace(record, fault=Fault("malformed", reason, message.value or b""))
        if self._authority is None:
            return record
        try:
            # By the broker's clock: a command may wait for its decision longer than its token is valid. The
            # sender's clock proves nothing; such records are from a topic with another setting before.
            by_broker = message.timestamp_type == LOG_APPEND_TIME
            at = message.timestamp / 1000 if by_broker else None
            body = signed_body(message.value, message.headers, record.envelope.data)
            command = self._authority.verify(token, record.envelope, body, at)
            return record if command is record.envelope else replace(record, envelope=command)
        except Unauthorized as error:
            return replace(record, fault=Fault("unauthorized", str(error), message.value or b""))


def _appended(milliseconds: int) -> str:
    """A record's timestamp as RFC 3339; empty when its producer set no valid one."""
    try:
        return timestamp(milliseconds / 1000) if milliseconds >= 0 else ""
    except (ValueError, OverflowError, OSError):
        return ""
