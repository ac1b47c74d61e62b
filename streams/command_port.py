"""Where commands are handed in and their outcomes awaited."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence

from schemas.envelope import Envelope, Key
from schemas.outcome import NON_CONSUMING_RULES, Outcome
from streams.log import Log, LogUnavailable
from streams.shared_timeout import SharedTimeout

logger = logging.getLogger("signalbox.commands")

APPEND_SECONDS = 8.0
"""How long the log may take to say that it has a command."""

REFUSED_SECONDS = 0.5
"""How long a refused command may still turn out to be accepted: both messages are on the log by then."""

LOOK_SECONDS = 1.0
"""After which a caller who heard nothing looks whether the command was decided before it was asked."""


class CommandPort:
    """Hands commands to the log, and hears from the decider what became of them."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._append_timeout = SharedTimeout(APPEND_SECONDS)
        self._waiting: dict[Key, list[asyncio.Future[Outcome]]] = {}

    async def submit(self, envelopes: Sequence[Envelope]) -> None:
        """Returns when the commands are durable.

        Raises LogUnavailable: none of them is known to be, and the same ids may be handed in again.
        """
        try:
            with self._append_timeout:
                await self._log.append("commands", envelopes)
        except TimeoutError as error:
            raise LogUnavailable(
                f"it did not take the command within {APPEND_SECONDS:g} s; hand it in again under the same id"
            ) from error

    async def outcome(self, command: Key) -> Outcome | None:
        """What became of a command that is decided."""
        record = await self._log.find("outcomes", command)
        return None if record is None else Outcome.of(record.envelope.data)

    async def pending(self, command: Key) -> bool:
        """True when the command is on the log and not decided."""
        if await self._log.find("commands", command) is None:
            return False
        return await self._log.find("outcomes", command) is None

    async def execute(self, envelopes: Sequence[Envelope], seconds: float) -> dict[Key, Outcome]:
        """Submits commands and answers those decided within `seconds` from now. Raises LogUnavailable.

        The events up to the position that an outcome names can be read.
        """
        deadline = _now() + seconds
        waiters = {e.key: self._await(e.key) for e in envelopes}
        try:
            await self.submit(envelopes)
            heard = await self._heard(waiters, min(deadline, _now() + LOOK_SECONDS))
            if len(heard) < len(waiters) and _now() < deadline:
                heard = await self._heard_or_found(waiters, deadline)
            return await self._readable(heard, deadline)
        finally:
            self._forget(waiters)

    async def outcomes(self, commands: Sequence[Key], seconds: float) -> dict[Key, Outcome]:
        """The outcomes of those commands that are decided within `seconds`, or were before."""
        deadline = _now() + seconds
        waiters = {key: self._await(key) for key in commands}
        try:
            return await self._readable(await self._heard_or_found(waiters, deadline), deadline)
        finally:
            self._forget(waiters)

    def decided(self, outcomes: Iterable[Outcome]) -> None:
        """Wakes those who wait for these outcomes.

        A refusal that does not use up the id may be of somebody else's message under the same id: whoever
        waits is told of it unless the command is decided within `REFUSED_SECONDS`.
        """
        for outcome in outcomes:
            if outcome.rule not in NON_CONSUMING_RULES:
                _answer(self._waiting.pop(outcome.key, ()), outcome)
            elif waiters := tuple(self._waiting.get(outcome.key, ())):
                # Only those of now: whoever asks later may have mended the command.
                asyncio.get_running_loop().call_later(REFUSED_SECONDS, _answer, waiters, outcome)

    def _await(self, command: Key) -> asyncio.Future[Outcome]:
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(command, []).append(waiter)
        return waiter

    async def _look(self, waiters: Mapping[Key, asyncio.Future[Outcome]]) -> None:
        """Answers those whose command was decided, perhaps long ago."""
        open_ = [key for key, waiter in waiters.items() if not waiter.done()]
        try:
            found = await self._log.find_all("outcomes", open_)
        except LogUnavailable as error:
            # Whoever decides the command may still tell us.
            logger.warning("earlier outcomes are not looked through: %s", error)
            return
        for key, record in found.items():
            if not waiters[key].done():
                waiters[key].set_result(Outcome.of(record.envelope.data))

    async def _heard(
        self, waiters: Mapping[Key, asyncio.Future[Outcome]], deadline: float
    ) -> dict[Key, Outcome]:
        open_ = [w for w in waiters.values() if not w.done()]
        if open_ and (seconds := deadline - _now()) > 0:
            await asyncio.wait(open_, timeout=seconds)
        return {key: waiter.result() for key, waiter in waiters.items() if waiter.done()}

    async def _heard_or_found(
        self, waiters: Mapping[Key, asyncio.Future[Outcome]], deadline: float
    ) -> dict[Key, Outcome]:
        """Looks and listens at the same time: looking may take longer than the caller has."""
        looking = asyncio.create_task(self._look(waiters))
        hearing = asyncio.create_task(self._heard(waiters, deadline))
        try:
            await asyncio.wait([looking, hearing], return_when=asyncio.FIRST_COMPLETED)
            if looking.done():
                looking.result()
            return await hearing
        finally:
            for task in (looking, hearing):
                task.cancel()
            await asyncio.gather(looking, hearing, return_exceptions=True)

    async def _readable(self, heard: dict[Key, Outcome], deadline: float) -> dict[Key, Outcome]:
        """The outcomes whose events can be read: another process may have them on its log a moment later."""
        for outcome in heard.values():
            if outcome.position > self._log.readable("events", self._log.partition_of(outcome.organization)):
                break
        else:
            return heard
        ends: dict[int, int] = {}
        for outcome in heard.values():
            partition = self._log.partition_of(outcome.organization)
            ends[partition] = max(outcome.position, ends.get(partition, 0))
        shown: set[int] = set()
        try:
            async with asyncio.timeout(deadline - _now()):
                for partition, end in ends.items():
                    if end > 0:
                        await self._log.wait("events", partition, end - 1)
                    shown.add(partition)
        except TimeoutError:
            logger.warning("outcomes are known whose events cannot be read yet")
        return {key: o for key, o in heard.items() if self._log.partition_of(o.organization) in shown}

    def _forget(self, waiters: Mapping[Key, asyncio.Future[Outcome]]) -> None:
        for key, waiter in waiters.items():
            others = self._waiting.get(key)
            if others is not None and waiter in others:
                others.remove(waiter)
                if not others:
                    del self._waiting[key]
            waiter.cancel()


def _answer(waiters: Iterable[asyncio.Future[Outcome]], outcome: Outcome) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(outcome)


def _now() -> float:
    return asyncio.get_running_loop().time()
