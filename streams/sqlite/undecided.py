"""Commands that become durable in one transaction with their decisions.

A decider that waits for commands gets a new one before it is durable, with the position that it gets. The
decider's transaction, which consumes the command, also writes it: a command waits for one commit, not two.
Nothing is announced or answered before that commit. If it fails, the command was never on the log; the
decider reads again. A command that is not consumed at once is written by itself.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from streams.log import Log, LogDamaged, LogError, LogUnavailable, Record, Topic, Transaction
from streams.sqlite.rows import decode
from streams.sqlite.schema import key_of
from streams.sqlite.writer import EncodedAppend, EncodedRow, EncodedTransaction, Positions, Stream

MOST = 256
"""Undecided commands of one transaction, as many as a decider takes."""
COMMANDS: Topic = "commands"

Enqueue = Callable[[EncodedTransaction], asyncio.Future[Positions]]
"""Hands a transaction to the writer."""
Durable = Callable[[Stream, int, asyncio.Future[None]], Awaitable[None]]
"""Awaits a future that is resolved when a stream has a durable record above a position."""
_Waiting = tuple[EncodedRow, asyncio.Future[int]]


class UndecidedCommands:
    """The commands of one partition that are not durable yet. For the event loop's thread only.

    They are accepted while a decider waits for commands or its transaction is being written, and no other
    request with commands is: so their positions are known. `end` returns the last durable position.
    """

    def __init__(self, partition: int, ends: Mapping[Stream, int], enqueue: Enqueue) -> None:
        """`ends`: the durable ends."""
        self._stream: Stream = (COMMANDS, partition)
        self._ends = ends
        self._enqueue = enqueue
        self._waiting: list[_Waiting] = []
        self._records: list[Record] = []
        """The first of them, as the decider read them."""
        self._unconfirmed: list[asyncio.Future[Positions]] = []
        """Requests with commands that the decider read before they were durable."""
        self._wanted: asyncio.Future[None] | None = None
        """Resolved for the decider that waits for commands."""
        self._followed = False
        """A decider waits here for commands, or did before."""
        self._deciding = False
        """The decider's transaction is being written."""
        self._newest: asyncio.Future[Positions] | None = None
        """The last transaction of a decider."""
        self._in_flight = 0
        """Other requests with commands."""

    @property
    def awaited(self) -> bool:
        """Whether a decider waits for commands."""
        return self._wanted is not None

    # -- senders

    def accepts(self, row: EncodedRow) -> bool:
        """Whether a command can be added now; those before it are written by themselves if not."""
        taken = self.awaited or (self._deciding and self._followed)
        if taken and not self._in_flight and len(self._waiting) < MOST and _is_text(row):
            return True
        self.flush()
        return False

    def add(self, row: EncodedRow) -> asyncio.Future[int]:
        """The position of a command that was accepted, once it is durable."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[int] = loop.create_future()
        self._waiting.append((row, answer))
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)
        if len(self._waiting) == 1:
            # The decider continues before it.
            loop.call_soon(self._flush_unless_deciding)
        return answer

    def enqueue(self, transaction: EncodedTransaction) -> asyncio.Future[Positions]:
        """Hands another transaction with commands to the writer. Its future must not be cancelled."""
        self.flush()
        request = self._enqueue(transaction)
        self._in_flight += 1
        request.add_done_callback(self._landed)
        return request

    def _landed(self, request: asyncio.Future[Positions]) -> None:
        self._in_flight -= 1

    def flush(self) -> None:
        """Writes the commands by themselves."""
        if not self._waiting:
            return
        waiting, self._waiting, read, self._records = self._waiting, [], self._records, []
        request = self.enqueue(EncodedTransaction(Transaction(), [self._append(waiting)]))
        if read:
            self._unconfirmed.append(request)
        request.add_done_callback(partial(self._answer, waiting))

    def _flush_unless_deciding(self) -> None:
        if not self._deciding:
            self.flush()

    # -- the decider

    async def wait(self, after: int, durable: Callable[[asyncio.Future[None]], Awaitable[None]]) -> None:
        """Returns as soon as there is a command above `after`. `durable` awaits a future, which it resolves
        when there is a durable one."""
        if self._end > after or self._last > after:
            return
        self._followed = True
        self._wanted = asyncio.get_running_loop().create_future()
        try:
            await durable(self._wanted)
        finally:
            self._wanted = None

    def read(self, after: int, limit: int) -> list[Record]:
        """Commands above `after`, which is not below the last durable position."""
        if self._last <= after:
            return []
        end = self._end
        for number in range(len(self._records), len(self._waiting)):
            key = key_of(self._stream[1], end + 1 + number)
            self._records.append(decode(COMMANDS, (key, *self._waiting[number][0])))
        return self._records[after - end : after - end + limit]

    @property
    def _end(self) -> int:
        return self._ends[self._stream]

    @property
    def _last(self) -> int:
        """The position of the last command that the decider can read; 0 while that is not known."""
        return 0 if self._deciding or self._in_flight else self._end + len(self._waiting)

    async def commit(self, transaction: EncodedTransaction, consumed: int) -> Positions:
        """Commits a decider's transaction, which consumes the commands up to a position, together with
        all commands that are not durable. Raises what the writer raises.

        Raises LogUnavailable, too, if commands that the decider read could not be written.
        """
        unconfirmed, self._unconfirmed = self._unconfirmed, []
        for request in unconfirmed:
            await _success(request)
        waiting, self._waiting, self._records = self._waiting, [], []
        if self._followed and consumed > self._end + len(waiting):
            raise LogUnavailable(f"commands up to {consumed} are not on the log")
        if waiting:
            joined = [*transaction.appends, self._append(waiting, self._end)]
            transaction = EncodedTransaction(transaction.transaction, joined)
        done: asyncio.Future[Positions] = asyncio.get_running_loop().create_future()
        self._deciding = True
        self._newest = self._enqueue(transaction)
        self._newest.add_done_callback(partial(self._decided, waiting, done))
        positions = await done
        return positions[:-1] if waiting else positions

    async def settled(self) -> None:
        """Returns when the last transaction of a decider is durable or has failed."""
        if self._newest is not None:
            await asyncio.wait([self._newest])

    def _decided(
        self,
        waiting: Sequence[_Waiting],
        done: asyncio.Future[Positions],
        request: asyncio.Future[Positions],
    ) -> None:
        self._deciding = False
        error = request.exception()
        if waiting:
            self._answer(waiting, request)
        if done.done():
            pass
        elif error is None:
            done.set_result(request.result())
        elif waiting and not isinstance(error, LogError):
            # One of the commands may have caused it: they are written one by one.
            done.set_exception(LogUnavailable(f"commands cannot be written with their decisions: {error}"))
        else:
            done.set_exception(error)
        # The decider continues before it, and takes them.
        asyncio.get_running_loop().call_soon(self._flush_unless_deciding)

    def _append(self, waiting: Sequence[_Waiting], expected: int | None = None) -> EncodedAppend:
        return EncodedAppend(self._stream, [row for row, _ in waiting], expected)

    def _answer(
        self, waiting: Sequence[_Waiting], request: asyncio.Future[Positions], *, alone: bool = False
    ) -> None:
        error = request.exception()
        if error is None:
            for (_, answer), position in zip(waiting, request.result()[-1], strict=True):
                if not answer.done():
                    answer.set_result(position)
        elif alone or isinstance(error, LogUnavailable | LogDamaged):
            for _, answer in waiting:
                if not answer.done():
                    answer.set_exception(type(error)(*error.args))
        else:
            # A row that causes an error itself must not fail the others.
            for one in waiting:
                again = self.enqueue(EncodedTransaction(Transaction(), [self._append([one])]))
                again.add_done_callback(partial(self._answer, [one], alone=True))


async def _success(request: asyncio.Future[Positions]) -> None:
    """Raises LogUnavailable unless the request is durable."""
    try:
        await asyncio.shield(request)
    except Exception as error:
        raise LogUnavailable(f"commands that were read are not on the log: {error}") from error


def _is_text(row: EncodedRow) -> bool:
    """Whether SQLite can store the texts of a row: not one of a lone surrogate."""
    id, type, subject, _ = row
    text = f"{id}{type}{subject}"
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class CommandSource:
    """The commands for deciders (`streams.subscription.Source`): also those that are not durable yet."""

    def __init__(
        self, log: Log, ends: Mapping[Stream, int], partitions: Sequence[UndecidedCommands], durable: Durable
    ) -> None:
        self.partitions = log.partitions
        self.end = log.end
        self._log = log
        self._ends = ends
        self._undecided = partitions
        self._durable = durable

    def awaited(self, partition: int) -> bool:
        """Whether a decider waits for commands."""
        return self._undecided[partition].awaited

    async def read(self, topic: Topic, partition: int, after: int, limit: int) -> list[Record]:
        if topic == COMMANDS and after >= self._ends[COMMANDS, partition]:
            return self._undecided[partition].read(after, limit)
        return await self._log.read(topic, partition, after, limit)

    async def wait(self, topic: Topic, partition: int, after: int) -> None:
        if topic == COMMANDS:
            await self._undecided[partition].wait(after, partial(self._durable, (COMMANDS, partition), after))
        else:
            await self._log.wait(topic, partition, after)
