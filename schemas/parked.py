"""The parked topic, which is the dead-letter queue: dead letters, and decisions of operators about them."""

from typing import ClassVar

from pydantic import Field

from schemas.message import Message


class Parked(Message):
    """The base of these messages. `organization` is empty when the dead letter named none."""

    organization: str = ""


class MessageParked(Parked):
    """A message that could not be handled, and whose sender cannot be notified."""

    aggregate: ClassVar[str] = "message"
    verb: ClassVar[str] = "parked"

    name: str = Field(description="Its id, if it had one.")
    topic: str = Field(examples=["commands"])
    partition: int
    position: int
    of_type: str = Field(default="", description="Its CloudEvents type, if it had one.")
    about: str = Field(default="", description="Its subject, if it had one.")
    rule: str = Field(examples=["malformed"])
    reason: str = Field(examples=["id: Missing required attribute: 'id'"])
    size: int = Field(description="Bytes of its body.")
    value: str = Field(default="", description="Its body, in base64.")


class ParkedEventsRetried(Parked):
    """An operator had the read model `name` handle the dead-lettered events about a subject again."""

    aggregate: ClassVar[str] = "parked"
    verb: ClassVar[str] = "retried"

    about: str = Field(examples=["organizations/acme/apis/orders"], description="The subject.")
    topic: str = Field(examples=["events"])
    partition: int
    position: int = Field(description="The first of them.")
    reason: str = Field(description="Why it was dead-lettered.")


class ParkedEventSkipped(ParkedEventsRetried):
    """An operator skipped a dead-lettered event: the read model `name` never handles it."""

    verb: ClassVar[str] = "skipped"

    event: str = Field(description="Its id.")
    of_type: str = Field(examples=["io.signalbox.api.published.v1"], description="Its CloudEvents type.")


class RecordSkipped(Parked):
    """An operator decided that an unreadable record on the event log is not an event."""

    aggregate: ClassVar[str] = "record"
    verb: ClassVar[str] = "skipped"

    name: str = Field(default="", description="Its id, if it had one.")
    topic: str = Field(examples=["events"])
    partition: int
    position: int
    reason: str = Field(description="The operator's reason.", examples=["a test wrote to the topic"])
    fault: str = Field(description="Why it cannot be read.")
    size: int = Field(description="Bytes of its body.")


PARKED: tuple[type[Parked], ...] = (MessageParked, ParkedEventsRetried, ParkedEventSkipped, RecordSkipped)
