"""Runs the Faust app in our loop, and a new one after each crash."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from itertools import chain, repeat

from projections.failures import unavailable
from streams.faust.app import RebalanceCallbacks, Service, build_app
from streams.faust.chunks import TopicPartition
from streams.faust.feed import FOLLOWED, Feed, ReadModelSink
from streams.faust.listener import ProjectionListener
from streams.faust.transport import Bookkeeping
from streams.kafka.integrity import Integrity
from streams.kafka.settings import KafkaSettings
from streams.log import Log

_LOG = logging.getLogger(__name__)
_BACK_OFF = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds between one app and the next; from the start again once an app was given partitions."""
WATCH_SECONDS = 0.5
LOST_TICKS = 4
STOP_SECONDS = 10.0
START_SECONDS = 60.0
ASK_SECONDS = 2.0


class FaustHost:
    """Feeds `sink` with events, outcomes and status of the partitions this process has in the group.

    `followers` hear of what has become durable. `joined` is set once the group has said which partitions are
    ours. `trouble` says why nothing advances, and is empty otherwise.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        log: Log,
        sink: ReadModelSink,
        followers: Sequence[ProjectionListener] = (),
        integrity: Integrity | None = None,
    ) -> None:
        self._settings = settings
        self._feed = Feed(settings, log, sink, followers, integrity)
        self._books = Bookkeeping(settings, self._starts)
        self._trouble = "the projector waits for its partitions"
        self.joined = asyncio.Event()

    @property
    def assigned(self) -> frozenset[TopicPartition]:
        return self._feed.assigned

    @property
    def trouble(self) -> str:
        return self._trouble or self._feed.trouble

    async def run(self) -> None:
        """Runs until cancelled; then what is being written is finished, and the group told."""
        pauses = chain(_BACK_OFF, repeat(_BACK_OFF[-1]))
        while True:
            self._books = Bookkeeping(self._settings, self._starts, self._feed.durable)
            moved = RebalanceCallbacks(self._assigned, self._revoked)
            app = build_app(self._settings, self._books, FOLLOWED, self._feed.take, moved)
            try:
                async with asyncio.timeout(START_SECONDS):
                    await app.start()
                if await self._watch(app):
                    pauses = chain(_BACK_OFF, repeat(_BACK_OFF[-1]))
                self._trouble = f"Faust stopped: {app.crash_reason}"
            except Exception as error:
                self._trouble = f"Faust does not start: {error or type(error).__name__}"
            finally:
                await self._stop(app)
            pause = next(pauses)
            _LOG.error("%s; again in %.1f s", self._trouble, pause)
            await asyncio.sleep(pause)

    async def _watch(self, app: Service) -> bool:
        """Until the app crashes; whether it was given partitions before."""
        idle: dict[TopicPartition, tuple[int, int]] = {}  # where it stands, and for how many ticks
        had = False
        while not app.crashed:
            await asyncio.sleep(WATCH_SECONDS)
            had = had or bool(self._feed.assigned)
            # What was fetched and has not got any further for a while was lost on its way.
            before, idle = idle, {}
            for place, at in self._feed.idle().items():
                fetched = self._books.fetched.get(place, 0)
                if at < fetched:
                    stood, ticks = before.get(place, (at, 0))
                    idle[place] = (at, ticks + 1 if stood == at else 0)
                    if idle[place][1] >= LOST_TICKS:
                        self._feed.catch_up(place, fetched)
        return had

    async def _starts(self, places: frozenset[TopicPartition]) -> Mapping[TopicPartition, int] | None:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                starts = await self._feed.begin(places)
        except Exception as error:
            if not unavailable(error):  # TimeoutError is
                raise
            _LOG.warning("reading on from the group's offsets, the database does not answer: %s", error)
            starts = None
        self._trouble = ""
        self.joined.set()
        return starts

    async def _assigned(self, places: frozenset[TopicPartition]) -> None:
        if not places:  # others have them all: there is nothing to start from
            await self._starts(places)

    async def _revoked(self, places: frozenset[TopicPartition]) -> None:
        await self._feed.settle(places)
        await self._feed.leave(places)

    async def _stop(self, app: Service) -> None:
        """What is being written is finished, bounded; its offsets are committed, the group is left."""
        places = self._feed.assigned
        await self._feed.settle(places, STOP_SECONDS)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await app.stop()
        except Exception as error:
            _LOG.warning("Faust does not stop: %s", error or type(error).__name__)
        await self._feed.leave(places)
