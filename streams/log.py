"""The `Log` port: an ordered, durable, partitioned log of CloudEvents. Engines implement it.

Positions start at 1 and increase within a topic's partition; engines may leave gaps. `read` never waits;
`wait` does. Code outside `streams/` does not depend on the engine.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from projections.source_log import SourceLog
from schemas.envelope import Envelope, MessageKey

Topic = Literal["commands", "events", "outcomes", "status", "parked"]
TOPICS: tuple[Topic, ...] = ("commands", "events", "outcomes", "status", "parked")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a message on the log cannot be handled: `rule` is one of `schemas.outcome.UNREADABLE`
    (`cannot-compile`: of a gateway that cannot be configured; `forged`: not written by Signalbox), `reason` a
    sentence, `value` the message's body as received."""

    rule: str
    reason: str
    value: bytes = b""


@dataclass(slots=True)
class Record:
    """An envelope at its position on the log. To be treated as immutable, like the envelope.

    With a `fault` the envelope contains only readable attributes: its id may be empty, its data is.
    """

    topic: Topic
    partition: int
    position: int
    envelope: Envelope
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Append:
    """Envelopes for one topic's partition. The commit fails if `expected` is not the position of the last
    record, or `first` not the position that the first envelope gets.
    """

    topic: Topic
    partition: int
    envelopes: Sequence[Envelope]
    expected: int | None = None
    first: int | None = None


@dataclass(frozen=True, slots=True)
class Consumed:
    """The position of a consumer, committed together with its writes."""

    consumer: str
    topic: Topic
    partition: int
    position: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """Appends, consumer positions and snapshots of one partition: durable together or not at all."""

    appends: Sequence[Append] = ()
    consumed: Sequence[Consumed] = ()
    snapshots: Sequence["StateSnapshot"] = field(default=())


@dataclass(frozen=True, slots=True)
class StateSnapshot:
    """State of one subject at a position: `state` is opaque bytes, empty when the subject was deleted."""

    owner: str
    partition: int
    subject: str
    position: int
    state: bytes


class LogError(Exception):
    """The log rejects an operation; nothing was written."""


class LogUnavailable(LogError):
    """The store refuses writes (disk full, read-only, broker down). Try again later.

    `reason` is for callers of the API: it names no file, server or table, and may be empty. The message is
    for operators.
    """

    def __init__(self, message: str = "", reason: str = "") -> None:
        super().__init__(message, reason)
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[0])


class LogDamaged(LogError):
    """The store contains data that it did not write. The message names the damage and the remedy; `reason`
    only the damage, where that is known."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class Fenced(LogError):
    """Another process has claimed the partition: nothing more is written to it from here."""


class MessageTooLarge(LogError):
    """A message is larger than the log's limit; nothing was written. The text has the size and the limit."""


class WrongExpectedPosition(LogError):
    """Another process wrote to the partition first."""

    def __init__(self, topic: str, partition: int, expected: int, actual: int) -> None:
        super().__init__(f"{topic}/{partition} ends at {actual}, expected {expected}")
        self.expected = expected
        self.actual = actual


class Log(Protocol):
    """The port. All methods are safe to call from one event loop, concurrently."""

    @property
    def partitions(self) -> int:
        """Partition count of every topic; never changes."""
        ...

    def partition_of(self, key: str) -> int:
        """The partition of an organization."""
        ...

    async def identity(self) -> SourceLog:
        """The unique id of this log, and its location. Raises LogUnavailable."""
        ...

    async def claim(self, partition: int) -> None:
        """Makes this process the only writer of a partition's events, outcomes and snapshots.

        Fences the previous writer and aborts its open transaction, so claim first, then read. Raises
        LogUnavailable.
        """
        ...

    async def release(self, partition: int) -> None:
        """Releases a claimed partition: this process no longer writes to it."""
        ...

    async def next_position(self, partition: int) -> int:
        """The position of the next event of a claimed partition."""
        ...

    async def append(self, topic: Topic, envelopes: Sequence[Envelope]) -> list[int]:
        """Durably appends each envelope to the partition of its `partitionkey`; their positions, in order.

        Raises LogUnavailable, MessageTooLarge.
        """
        ...

    async def commit(self, transaction: Transaction) -> list[list[int]]:
        """Writes all of `transaction` or nothing; positions per append.

        Raises WrongExpectedPosition, MessageTooLarge, Fenced, and LogUnavailable: then it may be durable or
        not, which is certain only after the partition is claimed again.
        """
        ...

    async def read(self, topic: Topic, partition: int, after: int, limit: int) -> list[Record]:
        """Up to `limit` records with positions above `after`, in order.

        Fewer when they have more than `LARGEST_READ` bytes together, but at least one while there are any: an
        empty result, or `end`, shows the end.
        """
        ...

    async def read_subject(
        self, topic: Topic, subject: str, *, after: int = 0, limit: int = 1000
    ) -> list[Record]:
        """Records about one subject, in order; limited like those of `read`."""
        ...

    async def find(self, topic: Topic, key: MessageKey) -> Record | None:
        """As `find_all`, for one key."""
        ...

    async def find_all(self, topic: Topic, keys: Sequence[MessageKey]) -> dict[MessageKey, Record]:
        """The first record of each organization and CloudEvents id that has one.

        On `outcomes` the first that decided its command (`schemas.outcome.decides`). The records can be read,
        and so can the events up to the position in a found outcome. Raises LogUnavailable.
        """
        ...

    async def find_by_id(self, topic: Topic, id: str) -> list[Record]:
        """The record of each organization that used this CloudEvents id, by organization.

        As `find_all`; but for a command that is not decided, its last outcome. Raises LogUnavailable.
        """
        ...

    async def end(self, topic: Topic, partition: int) -> int:
        """The last position, 0 when empty."""
        ...

    def readable(self, topic: Topic, partition: int) -> int:
        """A position up to which `read` certainly finds all records; the end may be higher."""
        ...

    async def first(self, topic: Topic, partition: int) -> int:
        """The position of the first record: 1, or higher after the topic's retention removed records."""
        ...

    async def wait(self, topic: Topic, partition: int, after: int) -> None:
        """Returns as soon as there is a record above `after`; bound it with `asyncio.timeout`."""
        ...

    async def consumed(self, consumer: str, topic: Topic, partition: int) -> int:
        """The committed position of a consumer, 0 at first."""
        ...

    async def snapshots(self, owner: str, partition: int) -> tuple[int, list[StateSnapshot]]:
        """The common position of the snapshots of `owner`, and the snapshots that are not empty."""
        ...

    async def close(self) -> None: ...


class RecordSource(Protocol):
    """Reads a log beside the process that has it open."""

    async def read(self, topic: Topic, partition: int, after: int, end: int, limit: int) -> list[Record]:
        """As `Log.read`, up to the position `end`."""
        ...


OpenSource = Callable[[], AbstractAsyncContextManager[RecordSource]]


@runtime_checkable
class ReadElsewhere(Protocol):
    """A log that other processes of this machine can read."""

    def source(self) -> OpenSource:
        """Opens the log in another process, to which `pickle` passes it. It raises LogError there."""
        ...
