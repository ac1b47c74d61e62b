"""Where commands are handed in and their outcomes awaited."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from schemas.envelope import Envelope, Key
from schemas.outcome import Outcome
from streams.log import Log, LogUnavailable

APPEND_SECONDS = 8.0
"""How long the log may take to say that it has a command."""

LOOK_SECONDS = 1.0
"""After which a caller who heard nothing looks whether the command was decided before it was asked."""


class Commanding:
    """Hands commands to the log, and hears from the decider what became of them."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._waiting: dict[Key, list[asyncio.Future[Outcome]]] = {}

    async def submit(self, envelopes: Sequence[Envelope]) -> None:
        """Returns when the commands are durable.

        Raises LogUnavailable: none of them is known to be, and the same ids may be handed in again.
        """
        try:
            async with asyncio.timeout(APPEND_SECONDS):
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
        """Submits commands and answers those decided within `seconds`. Raises LogUnavailable."""
        waiters = {e.key: self._await(e.key) for e in envelopes}
        try:
            await self.submit(envelopes)
            heard = await self._gather(waiters, min(seconds, LOOK_SECONDS))
            if len(heard) == len(waiters) or seconds <= LOOK_SECONDS:
                return heard
            await self._look(waiters)
            return await self._gather(waiters, seconds - LOOK_SECONDS)
        finally:
            self._forget(waiters)

    async def outcomes(self, commands: Sequence[Key], seconds: float) -> dict[Key, Outcome]:
        """The outcomes of those commands that are decided within `seconds`, or were before."""
        waiters = {key: self._await(key) for key in commands}
        try:
            await self._look(waiters)
            return await self._gather(waiters, seconds)
        finally:
            self._forget(waiters)

    def decided(self, outcomes: Iterable[Outcome]) -> None:
        """Wakes those who wait for these outcomes."""
        for outcome in outcomes:
            for waiter in self._waiting.pop(outcome.key, ()):
                if not waiter.done():
                    waiter.set_result(outcome)

    def _await(self, command: Key) -> asyncio.Future[Outcome]:
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(command, []).append(waiter)
        return waiter

    async def _look(self, waiters: Mapping[Key, asyncio.Future[Outcome]]) -> None:
        """Answers those whose command was decided, perhaps long ago."""
        open_ = [key for key, waiter in waiters.items() if not waiter.done()]
        for key, record in (await self._log.find_all("outcomes", open_)).items():
            if not waiters[key].done():
                waiters[key].set_result(Outcome.of(record.envelope.data))

    async def _gather(
        self, waiters: Mapping[Key, asyncio.Future[Outcome]], seconds: float
    ) -> dict[Key, Outcome]:
        open_ = [w for w in waiters.values() if not w.done()]
        if open_ and seconds > 0:
            await asyncio.wait(open_, timeout=seconds)
        return {key: waiter.result() for key, waiter in waiters.items() if waiter.done()}

    def _forget(self, waiters: Mapping[Key, asyncio.Future[Outcome]]) -> None:
        for key, waiter in waiters.items():
            others = self._waiting.get(key)
            if others is not None and waiter in others:
                others.remove(waiter)
                if not others:
                    del self._waiting[key]
            waiter.cancel()
