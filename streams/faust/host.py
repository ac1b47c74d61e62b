"""Runs the Faust app in our loop, and a new one after each crash."""

import asyncio
import logging
from collections.abc import Mapping, Sequence

from projections.failures import unavailable
from streams.faust.app import RebalanceCallbacks, Service, build_app
from streams.faust.chunks import TopicPartition
from streams.faust.feed import FOLLOWED, Feed, ReadModelSink
from streams.faust.transport import Bookkeeping
from streams.kafka.security.integrity import Integrity
from streams.kafka.settings import KafkaSettings
from streams.log import Log
from streams.projection.listener import ProjectionListener
from streams.retry import Retry

_LOG = logging.getLogger(__name__)
WATCH_SECONDS = 0.5
LOST_TICKS = 4
STOP_SECONDS = 8.0
"""For the batches in progress and for leaving the group together."""
START_SECONDS = 60.0
ASK_SECONDS = 2.0


class FaustCrashed(Exception):
    """The Faust app crashed; the text has the reason."""


class FaustHost:
    """Feeds `sink` with events, outcomes and status of the partitions this process has in the group.

    `listeners` are notified of records that have become durable. `joined` is set after the first assignment
    of partitions. `trouble` is why nothing advances, empty otherwise.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        log: Log,
        sink: ReadModelSink,
        listeners: Sequence[ProjectionListener] = (),
        integrity: Integrity | None = None,
    ) -> None:
        self._settings = settings
        self._feed = Feed(settings, log, sink, listeners, integrity)
        self._books = Bookkeeping(settings, self._starts)
        self._retry = Retry("read models do not advance", _LOG, retryable=lambda error: True)
        self.joined = asyncio.Event()

    @property
    def assigned(self) -> frozenset[TopicPartition]:
        return self._feed.assigned

    @property
    def trouble(self) -> str:
        waiting = "" if self.joined.is_set() else "the projector waits for its partitions"
        return self._retry.trouble or waiting or self._feed.trouble

    async def run(self) -> None:
        """Runs an app, and another one after each crash, until cancelled; then finishes the batches that are
        being written, and leaves the group."""
        await self._retry(self._run_app)

    async def _run_app(self) -> None:
        """Raises the error that prevented the start, or FaustCrashed."""
        self._books = Bookkeeping(self._settings, self._starts, self._feed.durable)
        moved = RebalanceCallbacks(self._assigned, self._revoked)
        app = build_app(self._settings, self._books, FOLLOWED, self._feed.take, moved)
        try:
            async with asyncio.timeout(START_SECONDS):
                await app.start()
            await self._watch(app)
            raise FaustCrashed(f"Faust stopped: {app.crash_reason}")
        finally:
            await self._stop(app)

    async def _watch(self, app: Service) -> None:
        """Returns when the app has crashed."""
        idle: dict[TopicPartition, tuple[int, int]] = {}  # the position, and for how many ticks
        while not app.crashed:
            await asyncio.sleep(WATCH_SECONDS)
            # Fetched records that are not durable after several ticks were lost in Faust.
            before, idle = idle, {}
            for place, at in self._feed.idle().items():
                fetched = self._books.fetched.get(place, 0)
                if at < fetched:
                    stood, ticks = before.get(place, (at, 0))
                    idle[place] = (at, ticks + 1 if stood == at else 0)
                    if idle[place][1] >= LOST_TICKS:
                        self._feed.catch_up(place, fetched)

    async def _starts(self, places: frozenset[TopicPartition]) -> Mapping[TopicPartition, int] | None:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                starts = await self._feed.begin(places)
        except Exception as error:
            if not unavailable(error):  # TimeoutError is
                raise
            _LOG.warning("reading continues at the group's offsets: the database does not answer: %s", error)
            starts = None
        self._retry.succeeded()
        self.joined.set()
        return starts

    async def _assigned(self, places: frozenset[TopicPartition]) -> None:
        if not places:  # other processes have all partitions
            await self._starts(places)

    async def _revoked(self, places: frozenset[TopicPartition]) -> None:
        await self._feed.settle(places)
        await self._feed.leave(places)

    async def _stop(self, app: Service) -> None:
        """Finishes the batches in progress, commits their offsets and leaves the group, bounded."""
        places = self._feed.assigned
        limit = asyncio.timeout_at(asyncio.get_running_loop().time() + STOP_SECONDS)
        if unwritten := await self._feed.settle(places, STOP_SECONDS / 2):
            _LOG.warning("not waited for: the batches of %d partitions that are being written", unwritten)
        try:
            async with limit:
                await app.stop()
        except Exception as error:
            if not limit.expired():
                _LOG.warning("Faust does not stop: %s", error or type(error).__name__)
        if limit.expired():  # which Faust may swallow
            _LOG.warning("not waited for: the consumer, to commit its offsets and leave the group")
        await self._feed.leave(places)
