"""Submits commands and waits for their outcomes."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence

from schemas.envelope import Envelope, MessageKey
from schemas.outcome import NON_CONSUMING_RULES, Outcome
from streams.log import Log, LogUnavailable
from streams.submission.shared_timeout import SharedTimeout

logger = logging.getLogger("signalbox.commands")

APPEND_SECONDS = 8.0
"""Seconds that the log may take to acknowledge a command."""

REFUSED_SECONDS = 0.5
"""Seconds after a rejection in which the command may still be accepted: then both outcomes are on the log."""

LOOK_SECONDS = 1.0
"""After this time without an outcome, the log is searched for one from before the submission."""


class CommandPort:
    """Appends commands to the log, and is notified of their outcomes (`decided`)."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._append_timeout = SharedTimeout(APPEND_SECONDS)
        self._look_timeout = SharedTimeout(LOOK_SECONDS)
        self._waiting: dict[MessageKey, list[asyncio.Future[Outcome]]] = {}

    async def submit(self, envelopes: Sequence[Envelope]) -> None:
        """Returns when the commands are durable.

        Raises LogUnavailable: they may be durable or not, and can be submitted again with the same ids.
        """
        try:
            with self._append_timeout:
                await self._log.append("commands", envelopes)
        except TimeoutError as error:
            raise LogUnavailable(
                f"no acknowledgement of the command in {APPEND_SECONDS:g} s; send it again with the same id"
            ) from error

    async def outcome(self, command: MessageKey) -> Outcome | None:
        """The outcome of a command, None while it is not decided."""
        record = await self._log.find("outcomes", command)
        return None if record is None else Outcome.of(record.envelope.data)

    async def pending(self, command: MessageKey) -> bool:
        """True when the command is on the log and not decided."""
        if await self._log.find("commands", command) is None:
            return False
        return await self._log.find("outcomes", command) is None

    async def execute(self, envelopes: Sequence[Envelope], seconds: float) -> dict[MessageKey, Outcome]:
        """Submits commands; returns the outcomes of those decided within `seconds`. Raises LogUnavailable.

        The events up to the position in an outcome can be read.
        """
        deadline = _now() + seconds
        waiters = {e.key: self._await(e.key) for e in envelopes}
        try:
            await self.submit(envelopes)
            if len(waiters) == 1 and deadline >= _now() + LOOK_SECONDS:
                outcomes = await self._notified_soon(*next(iter(waiters.items())))
            else:
                outcomes = await self._notified(waiters, min(deadline, _now() + LOOK_SECONDS))
            if len(outcomes) < len(waiters) and _now() < deadline:
                # An outcome of between two waiters is found on the log.
                for key, expired in [item for item in waiters.items() if item[1].cancelled()]:
                    self._forget({key: expired})
                    waiters[key] = self._await(key)
                outcomes = await self._notified_or_found(waiters, deadline)
            return await self._readable(outcomes, deadline)
        finally:
            self._forget(waiters)

    async def outcomes(self, commands: Sequence[MessageKey], seconds: float) -> dict[MessageKey, Outcome]:
        """The outcomes of those commands that are decided within `seconds`, or were before."""
        deadline = _now() + seconds
        waiters = {key: self._await(key) for key in commands}
        try:
            return await self._readable(await self._notified_or_found(waiters, deadline), deadline)
        finally:
            self._forget(waiters)

    def decided(self, outcomes: Iterable[Outcome]) -> None:
        """Resolves the waiters of these outcomes.

        A rejection that leaves the id unused may belong to another message with the same id: the waiters
        receive it only if the command is not decided within `REFUSED_SECONDS`.
        """
        for outcome in outcomes:
            if outcome.rule not in NON_CONSUMING_RULES:
                _answer(self._waiting.pop(outcome.key, ()), outcome)
            elif waiters := tuple(self._waiting.get(outcome.key, ())):
                # Only the present waiters: later ones may have submitted a corrected command.
                asyncio.get_running_loop().call_later(REFUSED_SECONDS, _answer, waiters, outcome)

    def _await(self, command: MessageKey) -> asyncio.Future[Outcome]:
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(command, []).append(waiter)
        return waiter

    async def _search(self, waiters: Mapping[MessageKey, asyncio.Future[Outcome]]) -> None:
        """Searches the log for the outcomes, which may be old, and resolves their waiters."""
        open_ = [key for key, waiter in waiters.items() if not waiter.done()]
        try:
            found = await self._log.find_all("outcomes", open_)
        except LogUnavailable as error:
            # The outcome may still be consumed from the log.
            logger.warning("earlier outcomes are not searched: %s", error)
            return
        for key, record in found.items():
            if not waiters[key].done():
                waiters[key].set_result(Outcome.of(record.envelope.data))

    async def _notified(
        self, waiters: Mapping[MessageKey, asyncio.Future[Outcome]], deadline: float
    ) -> dict[MessageKey, Outcome]:
        open_ = [w for w in waiters.values() if not w.done()]
        if open_ and (seconds := deadline - _now()) > 0:
            await asyncio.wait(open_, timeout=seconds)
        return {key: waiter.result() for key, waiter in waiters.items() if waiter.done()}

    async def _notified_soon(
        self, key: MessageKey, waiter: asyncio.Future[Outcome]
    ) -> dict[MessageKey, Outcome]:
        """The outcome if there is one within `LOOK_SECONDS`, with one timer for all commands that wait.

        Without one, `waiter` is cancelled: `asyncio.shield` takes a twentieth of the time of a command.
        """
        try:
            with self._look_timeout:
                return {key: await waiter}
        except TimeoutError:
            return {} if waiter.cancelled() else {key: waiter.result()}

    async def _notified_or_found(
        self, waiters: Mapping[MessageKey, asyncio.Future[Outcome]], deadline: float
    ) -> dict[MessageKey, Outcome]:
        """Searches and waits at the same time: the search may take longer than the deadline."""
        searching = asyncio.create_task(self._search(waiters))
        waiting = asyncio.create_task(self._notified(waiters, deadline))
        try:
            await asyncio.wait([searching, waiting], return_when=asyncio.FIRST_COMPLETED)
            if searching.done():
                searching.result()
            return await waiting
        finally:
            for task in (searching, waiting):
                task.cancel()
            await asyncio.gather(searching, waiting, return_exceptions=True)

    async def _readable(
        self, outcomes: dict[MessageKey, Outcome], deadline: float
    ) -> dict[MessageKey, Outcome]:
        """The outcomes whose events can be read: events of another process become readable a moment later."""
        for outcome in outcomes.values():
            if outcome.position > self._log.readable("events", self._log.partition_of(outcome.organization)):
                break
        else:
            return outcomes
        ends: dict[int, int] = {}
        for outcome in outcomes.values():
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
            logger.warning("outcomes are left out, since their events cannot be read yet")
        return {key: o for key, o in outcomes.items() if self._log.partition_of(o.organization) in shown}

    def _forget(self, waiters: Mapping[MessageKey, asyncio.Future[Outcome]]) -> None:
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
