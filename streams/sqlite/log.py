"""The log in one SQLite file, written by group commit."""

import asyncio
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from projections.source_log import SourceLog
from schemas.envelope import Envelope, MessageKey
from schemas.limits import LARGEST_COMMAND
from streams.log import (
    TOPICS,
    Append,
    LogError,
    LogUnavailable,
    MessageTooLarge,
    OpenSource,
    Record,
    StateSnapshot,
    Topic,
    Transaction,
)
from streams.partitioner import partition_of
from streams.sqlite.checks.seal import unseal
from streams.sqlite.checks.soundness import (
    require_sound,
    source_log,
    stored_ends,
    stored_identity,
    stored_partitions,
)
from streams.sqlite.database import connect, explained, make_directory, prepare
from streams.sqlite.group_commit import GroupCommit
from streams.sqlite.joined_appends import JoinedAppends
from streams.sqlite.lock import DirectoryLock
from streams.sqlite.reader import Reader, open_reader, skipped_keys
from streams.sqlite.recent import RecentRecords
from streams.sqlite.rows import encode
from streams.sqlite.schema import CONSUMED, LOG, MAX_PARTITIONS, key_of
from streams.sqlite.undecided import COMMANDS, CommandSource, UndecidedCommands
from streams.sqlite.writer import EncodedRow, EncodedTransaction, LogUnit, Positions, Stream, Written, encoded
from streams.submission.find_results import by_organization, stands
from streams.threads import in_thread


class PartitionCountChanged(LogError):
    """The log was created with another number of partitions, which never changes."""


class SqliteLog:
    """`streams.log.Log` on one file, for one process and one event loop.

    Positions have no gaps. `find` and `find_all` on the topic `status` read all of it.
    """

    def __init__(
        self,
        path: Path,
        identity: int,
        partitions: int,
        ends: dict[Stream, int],
        skipped: frozenset[int],
        lock: DirectoryLock | None,
    ) -> None:
        """Use `open`."""
        self._path = path
        self._identity = identity
        self._partitions = partitions
        self._ends = ends
        self._lock = lock
        self._reader = Reader(path, skipped)
        self._recent = {stream: RecentRecords(stream[0]) for stream in ends}
        self._waiters: dict[Stream, dict[asyncio.Future[None], int]] = {s: {} for s in ends}
        self._closed = False
        self._writer: GroupCommit[EncodedTransaction, Positions] = GroupCommit(
            LOG, path, lambda: LogUnit(ends, self._committed), "signalbox-log"
        )
        self._single_appends = JoinedAppends(self._enqueue)
        self._undecided = [UndecidedCommands(p, ends, self._writer.enqueue) for p in range(partitions)]
        self.command_source = CommandSource(self, ends, self._undecided, self._resolved)

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        partitions: int = 1,
        lock: DirectoryLock | None = None,
        skipping: tuple[int, int] | None = None,
    ) -> "SqliteLog":
        """Opens the log in `directory`; creates both if missing.

        `skipping`: partition and position of an event that may be unreadable.

        Locks the directory, unless the caller passes its own `lock`, which the caller also releases. Raises
        DirectoryInUse, PartitionCountChanged, LogUnavailable, and LogDamaged when the content was changed.
        """
        if not 1 <= partitions <= MAX_PARTITIONS:
            raise ValueError(f"partitions must be between 1 and {MAX_PARTITIONS}")
        make_directory(directory)
        own = _locked(directory) if lock is None else None
        try:
            extra = frozenset[int]() if skipping is None else frozenset({key_of(*skipping)})
            opened = await in_thread(_prepared, directory, partitions, extra)
            return cls(*opened, own)
        except BaseException:
            if own is not None:
                own.release()
            raise

    @property
    def partitions(self) -> int:
        return self._partitions

    async def identity(self) -> SourceLog:
        return source_log(self._path, self._identity)

    def source(self) -> OpenSource:
        return partial(open_reader, self._path, self._reader.skipped)

    def ends(self) -> dict[Stream, int]:
        """The last position of every partition of every topic."""
        return dict(self._ends)

    @property
    def transactions(self) -> int:
        """The number of transactions committed to disk since it was opened."""
        return self._writer.transactions

    @property
    def refusing(self) -> str:
        """Why writes are refused at the moment, without a file's name; empty when they are accepted."""
        return self._writer.refusing

    def measure(self, committed_in: Callable[[float], None]) -> None:
        """Calls `committed_in` on the writer's thread with the seconds of each commit."""
        self._writer.committed_in = committed_in

    def partition_of(self, key: str) -> int:
        return partition_of(key, self._partitions)

    async def claim(self, partition: int) -> None:
        """Waits for the end of a transaction of the writer before, in this process; the lock on the data
        directory excludes others."""
        self._require("events", partition)
        await self._undecided[partition].settled()

    async def release(self, partition: int) -> None:
        """Nothing to do: no other process can claim a partition."""

    async def next_position(self, partition: int) -> int:
        return self._require("events", partition) + 1

    async def append(self, topic: Topic, envelopes: Sequence[Envelope]) -> list[int]:
        if len(envelopes) == 1:
            (envelope,) = envelopes
            partition = self.partition_of(envelope.partitionkey)
            self._require(topic, partition)
            row = encode(envelope)
            if topic == COMMANDS:
                _require_sizes([row])
                if not self._writer.refusing and not self._single_appends.waits((topic, partition)):
                    undecided = self._undecided[partition]
                    if undecided.accepts(row):
                        return [await undecided.add(row)]
            return [await self._single_appends.append((topic, partition), row)]
        by_partition: dict[int, list[Envelope]] = {}
        partitions = [self.partition_of(envelope.partitionkey) for envelope in envelopes]
        for partition, envelope in zip(partitions, envelopes, strict=True):
            by_partition.setdefault(partition, []).append(envelope)
        appends = [Append(topic, partition, some) for partition, some in by_partition.items()]
        positions = await self.commit(Transaction(appends))
        following = {append.partition: iter(of) for append, of in zip(appends, positions, strict=True)}
        return [next(following[partition]) for partition in partitions]

    async def commit(self, transaction: Transaction) -> list[list[int]]:
        ready = encoded(transaction)
        commands = False
        for append in ready.appends:
            self._require(*append.stream)
            if append.stream[0] == COMMANDS:
                _require_sizes(append.rows)
                commands = True
        for consumed in transaction.consumed:
            if consumed.topic == COMMANDS:
                return await self._undecided[consumed.partition].commit(ready, consumed.position)
        request = self._enqueue(ready)
        # Positions of commands are known only once those before them are written.
        return await (asyncio.shield(request) if commands else request)

    def _enqueue(self, transaction: EncodedTransaction) -> asyncio.Future[Positions]:
        for append in transaction.appends:
            if append.stream[0] == COMMANDS:
                return self._undecided[append.stream[1]].enqueue(transaction)
        return self._writer.enqueue(transaction)

    async def read(self, topic: Topic, partition: int, after: int, limit: int) -> list[Record]:
        end = self._require(topic, partition)
        after = max(after, 0)
        recent = self._recent[topic, partition].read(after, min(end, after + limit)) if after < end else []
        if recent is not None and not self._closed:
            return recent
        return await self._reader.read(topic, partition, after, end, limit)

    async def read_subject(
        self, topic: Topic, subject: str, *, after: int = 0, limit: int = 1000
    ) -> list[Record]:
        records: list[Record] = []
        for partition in range(self._partitions):
            left, end = limit - len(records), self._ends[topic, partition]
            records += await self._reader.read_subject(topic, partition, subject, after, end, left)
        return records

    async def find(self, topic: Topic, key: MessageKey) -> Record | None:
        return (await self.find_all(topic, [key])).get(key)

    async def find_all(self, topic: Topic, keys: Sequence[MessageKey]) -> dict[MessageKey, Record]:
        ids: dict[int, list[str]] = {}
        for organization, id in keys:
            ids.setdefault(self.partition_of(organization), []).append(id)
        wanted = frozenset(keys)
        found: dict[MessageKey, Record] = {}
        for partition, some in ids.items():
            for record in await self._find(topic, partition, some):
                if record.envelope.key in wanted and stands(record):
                    found.setdefault(record.envelope.key, record)
        return found

    async def find_by_id(self, topic: Topic, id: str) -> list[Record]:
        records: list[Record] = []
        for partition in range(self._partitions):
            records += await self._find(topic, partition, [id])
        return by_organization(records)

    async def _find(self, topic: Topic, partition: int, ids: Sequence[str]) -> list[Record]:
        # The file has a transaction a moment before its end is published to readers: found records beyond
        # the published end would not be visible to `read` and `end`.
        return await self._reader.find(topic, partition, ids, self._ends[topic, partition])

    async def end(self, topic: Topic, partition: int) -> int:
        return self._require(topic, partition)

    def readable(self, topic: Topic, partition: int) -> int:
        return self._ends[topic, partition]

    async def first(self, topic: Topic, partition: int) -> int:
        self._require(topic, partition)
        return 1

    async def wait(self, topic: Topic, partition: int, after: int) -> None:
        if self._require(topic, partition) > after:
            return
        await self._resolved((topic, partition), after, asyncio.get_running_loop().create_future())

    async def _resolved(self, stream: Stream, after: int, waiter: asyncio.Future[None]) -> None:
        """Awaits `waiter`, which is resolved when a record above `after` is durable."""
        if self._closed:
            raise LogUnavailable(f"{self._path} is closed")
        waiters = self._waiters[stream]
        waiters[waiter] = after
        try:
            await waiter
        finally:
            del waiters[waiter]

    async def consumed(self, consumer: str, topic: Topic, partition: int) -> int:
        rows = self._reader.query(CONSUMED, (consumer, topic, partition))
        return rows[0][0] if rows else 0

    async def snapshots(self, owner: str, partition: int) -> tuple[int, list[StateSnapshot]]:
        return await self._reader.snapshots(owner, partition)

    async def close(self) -> None:
        """Executes the submitted requests. Callers that wait for records get LogUnavailable."""
        if self._closed:
            return
        self._closed = True
        # The writer last: the last closed connection writes the journal back, which a read-only one cannot.
        self._reader.close()
        self._single_appends.send()
        for undecided in self._undecided:
            undecided.flush()
        await self._writer.close()
        for waiters in self._waiters.values():
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(LogUnavailable(f"{self._path} is closed"))
        if self._lock is not None:
            self._lock.release()

    def _require(self, topic: Topic, partition: int) -> int:
        """The end of a partition. Raises ValueError if it does not exist."""
        end = self._ends.get((topic, partition))
        if end is None:
            raise ValueError(f"there is no {topic}/{partition}; the log has {self._partitions} partitions")
        return end

    def _committed(self, written: Written) -> None:
        for stream, (rows, upto) in written.items():
            self._recent[stream].add(rows, upto)
            end = self._ends[stream]
            for waiter, after in self._waiters[stream].items():
                if after < end and not waiter.done():
                    waiter.set_result(None)


def _require_sizes(rows: Sequence[EncodedRow]) -> None:
    """Raises MessageTooLarge for commands. Events are derived from commands, and bounded by them."""
    for _, type, subject, rest in rows:
        size = len(type) + len(subject) + len(rest)
        if size > LARGEST_COMMAND:
            message = f"A message of {size:,} bytes is too large for the topic commands"
            raise MessageTooLarge(f"{message}, which takes {LARGEST_COMMAND:,}.")


def _locked(directory: Path) -> DirectoryLock:
    try:
        return DirectoryLock(directory)
    except OSError as error:
        raise LogUnavailable(f"{directory}: {error.strerror}") from error


def _prepared(
    directory: Path, partitions: int, extra: frozenset[int]
) -> tuple[Path, int, int, dict[Stream, int], frozenset[int]]:
    path = prepare(LOG, directory, check=partial(require_sound, skipped=extra))
    try:
        unseal(directory)
        db = connect(LOG, path, write=True)
        try:
            stored = stored_partitions(db)
            if stored is None:
                db.execute("INSERT INTO settings VALUES ('partitions', ?)", (partitions,))
            elif stored != partitions:
                raise PartitionCountChanged(
                    f"{path} was created with {stored} partitions, which never changes; "
                    f"{partitions} were requested"
                )
            ends: dict[Stream, int] = {(t, p): 0 for t in TOPICS for p in range(partitions)}
            ends.update(stored_ends(db))
            return path, _identity(db), partitions, ends, extra | skipped_keys(db)
        finally:
            db.close()
    except sqlite3.Error as error:
        raise explained(error, path) from error
    except OSError as error:
        raise LogUnavailable(f"{directory}: {error.strerror}") from error


def _identity(db: sqlite3.Connection) -> int:
    """The identity of the log, made at its first start and, in a log of release 0.1.0, at the next one."""
    stored = stored_identity(db)
    if stored is not None:
        return stored
    made = secrets.randbits(63)
    db.execute("INSERT INTO settings VALUES ('identity', ?)", (made,))
    return made
