"""The parked topic, which is the dead-letter queue: dead letters, and decisions of operators about them."""

from typing import ClassVar

from pydantic import Field

from schemas.message import Message


class Parked(Message):
    """The family. `organization` is empty when a message did not say whose it is."""

    organization: str = ""


class MessageParked(Parked):
    """A message that could not be taken, and whose sender cannot be told."""

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
    """Somebody had a read model, `name`, take in the parked events about a subject again."""

    aggregate: ClassVar[str] = "parked"
    verb: ClassVar[str] = "retried"

    about: str = Field(examples=["organizations/acme/apis/orders"], description="The subject.")
    topic: str = Field(examples=["events"])
    partition: int
    position: int = Field(description="The first of them.")
    reason: str = Field(description="Why it was parked.")


class ParkedEventSkipped(ParkedEventsRetried):
    """Somebody gave up a parked event: the read model, `name`, never takes it in."""

    verb: ClassVar[str] = "skipped"

    event: str = Field(description="Its id.")
    of_type: str = Field(examples=["io.signalbox.api.published.v1"], description="Its CloudEvents type.")


class RecordSkipped(Parked):
    """Somebody decided that a record on the event log that cannot be read is none of the events."""

    aggregate: ClassVar[str] = "record"
    verb: ClassVar[str] = "skipped"

    name: str = Field(default="", description="Its id, if it had one.")
    topic: str = Field(examples=["events"])
    partition: int
    position: int
    reason: str = Field(description="Why, as that person said.", examples=["a test wrote to the topic"])
    fault: str = Field(description="Why it cannot be read.")
    size: int = Field(description="Bytes of its body.")


PARKED: tuple[type[Parked], ...] = (MessageParked, ParkedEventsRetried, ParkedEventSkipped, RecordSkipped)
