"""The `Log` port: an ordered, durable, partitioned record of CloudEvents. Engines implement it.

Positions start at 1 and rise within a topic's partition; engines may leave gaps. Reading never
waits; `wait` does. Nothing outside `streams/` knows which engine runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from schemas.envelope import Envelope, Key

Topic = Literal["commands", "events", "outcomes", "status", "parked"]
TOPICS: tuple[Topic, ...] = ("commands", "events", "outcomes", "status", "parked")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a message others put on the log cannot be taken: `rule` is one of `schemas.outcome.UNREADABLE`
    (`cannot-compile`: of a gateway that cannot be configured; `forged`: not written by us), `reason` a
    sentence, `value` the message's body as it came."""

    rule: str
    reason: str
    value: bytes = b""


@dataclass(slots=True)
class Record:
    """An envelope where it stands on the log. To be treated as immutable, like the envelope.

    With a `fault` the envelope holds no more than what could be read: its id may be empty, its data is.
    """

    topic: Topic
    partition: int
    position: int
    envelope: Envelope
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Append:
    """Envelopes for one topic's partition; refused when `expected` is given and is not its end.

    With `first`, what `Log.next_position` said: they are written there or not at all.
    """

    topic: Topic
    partition: int
    envelopes: Sequence[Envelope]
    expected: int | None = None
    first: int | None = None


@dataclass(frozen=True, slots=True)
class Consumed:
    """How far a consumer has read, kept with what it wrote."""

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
    """State of one subject as of a position: `state` is opaque bytes, empty when the subject is gone."""

    owner: str
    partition: int
    subject: str
    position: int
    state: bytes


class LogError(Exception):
    """The log cannot do what was asked; nothing was written."""


class LogUnavailable(LogError):
    """The store refuses writes (disk full, read-only, broker gone). Try again later.

    `reason` is for callers of the API: it names no file, server or table, and is empty when nothing can be
    said without. The message is for operators.
    """

    def __init__(self, message: str = "", reason: str = "") -> None:
        super().__init__(message, reason)
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[0])


class LogDamaged(LogError):
    """The store holds something it cannot have written. Says what and what can be done; `reason` is only
    what, where that is known by itself."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class Fenced(LogError):
    """Another process has claimed the partition: nothing more is written to it from here."""


class MessageTooLarge(LogError):
    """A message is larger than the log takes; nothing was written. Says the size and the limit."""


class WrongExpectedPosition(LogError):
    """Somebody else wrote to the partition first."""

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

    async def claim(self, partition: int) -> None:
        """Makes this the one writer of a partition's events, outcomes and snapshots.

        Whoever was it before is fenced and what it had not committed is gone, so claim first and read
        then. Raises LogUnavailable.
        """
        ...

    async def next_position(self, partition: int) -> int:
        """Where the next event of a claimed partition will stand."""
        ...

    async def append(self, topic: Topic, envelopes: Sequence[Envelope]) -> list[int]:
        """Durably appends each envelope to the partition of its `partitionkey`; positions in order.

        Raises LogUnavailable, MessageTooLarge.
        """
        ...

    async def commit(self, transaction: Transaction) -> list[list[int]]:
        """All of `transaction` or nothing; positions per append.

        Raises WrongExpectedPosition, MessageTooLarge, Fenced, and LogUnavailable: then whether it is
        durable is known once the partition is claimed again.
        """
        ...

    async def read(self, topic: Topic, partition: int, after: int, limit: int) -> list[Record]:
        """Up to `limit` records with positions above `after`, in order.

        Fewer when they have more than `LARGEST_READ` bytes together, but never none while there are some:
        the end is where nothing is read, or what `end` says.
        """
        ...

    async def read_subject(
        self, topic: Topic, subject: str, *, after: int = 0, limit: int = 1000
    ) -> list[Record]:
        """Records about one subject, in order; as many as `read` would give."""
        ...

    async def find(self, topic: Topic, key: Key) -> Record | None:
        """As `find_all`, for one key."""
        ...

    async def find_all(self, topic: Topic, keys: Sequence[Key]) -> dict[Key, Record]:
        """The first record of each organization and CloudEvents id that has one.

        On `outcomes` the first that decided its command (`schemas.outcome.decides`). What is found can be
        read, and so can the events up to the position that a found outcome names. Raises LogUnavailable.
        """
        ...

    async def find_by_id(self, topic: Topic, id: str) -> list[Record]:
        """The record of each organization that used this CloudEvents id, by organization.

        As `find_all`; but of a command that is not decided, the last outcome there is. Raises
        LogUnavailable.
        """
        ...

    async def end(self, topic: Topic, partition: int) -> int:
        """The last position, 0 when empty."""
        ...

    def readable(self, topic: Topic, partition: int) -> int:
        """A position up to which this process knows that `read` finds everything; the end may be higher."""
        ...

    async def first(self, topic: Topic, partition: int) -> int:
        """The position from which on everything is kept: 1, or higher when the topic's retention removed what
        was before."""
        ...

    async def wait(self, topic: Topic, partition: int, after: int) -> None:
        """Returns as soon as there is a record above `after`; bound it with `asyncio.timeout`."""
        ...

    async def consumed(self, consumer: str, topic: Topic, partition: int) -> int:
        """How far a consumer has committed, 0 at first."""
        ...

    async def snapshots(self, owner: str, partition: int) -> tuple[int, list[StateSnapshot]]:
        """The position all snapshots of `owner` together stand for, and the snapshots that are not empty."""
        ...

    async def close(self) -> None: ...
