"""Tells whether gateways are healthy, degraded or offline: from what was heard of their nodes, and silence.

What is still to be read from the log is not silence: nodes are looked at as of the last word taken in. Nor
is it silence when the log could not be reached: after that, and after a start, nothing is said to be worse
before everybody had the time to be heard.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from time import time

from projections.deliveries.rows import HEARTBEAT_TIMEOUT_SECONDS
from projections.derived.liveness import Key, Liveness, changed_liveness
from projections.failures import ReadModelsUnavailable, unavailable
from projections.queries import NotReady, ReadModels
from schemas.envelopes import envelope_for
from schemas.gateway import GATEWAY
from schemas.identity import timestamp
from schemas.status import LivenessReported
from streams.faust.publication import publish
from streams.log import Log, LogUnavailable, Record, Topic

_LOG = logging.getLogger(__name__)
_LATER = (LogUnavailable, NotReady, ReadModelsUnavailable)
EVERY_SECONDS = 2.0


class LivenessPublisher:
    """A Follower. Belongs to one event loop. `clock` is seconds since 1970."""

    def __init__(
        self,
        log: Log,
        read_models: ReadModels,
        source: str,
        *,
        clock: Callable[[], float] = time,
        every: float = EVERY_SECONDS,
    ) -> None:
        self._log = log
        self._read_models = read_models
        self._source = source
        self._clock = clock
        self._every = every
        self._durable: dict[int, int] = {}
        self._latest: dict[int, float] = {}  # when the last word taken in was said
        self._listening: float | None = None
        self._looked = 0.0
        self._said: dict[Key, Liveness] = {}  # told, and not yet back

    def assigned(self, places: Mapping[tuple[Topic, int], int]) -> None:
        self._durable = {partition: at for (topic, partition), at in places.items() if topic == "status"}
        self._latest.clear()
        self._listening = None
        self._said.clear()

    def taken(self, topic: Topic, partition: int, records: Sequence[Record]) -> None:
        if topic != "status":
            return
        if partition in self._durable:
            self._durable[partition] = records[-1].position
            self._latest[partition] = _seconds(records[-1].envelope.time)
        for record in records:
            if record.envelope.type == LivenessReported.type():
                data = record.envelope.data
                self._said.pop((str(data.get("organization")), str(data.get("name"))), None)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._every)
            try:
                await self._look()
            except Exception as error:
                if not (isinstance(error, _LATER) or unavailable(error)):
                    raise
                # At a first start there are no read models yet: nothing is wrong.
                level = logging.DEBUG if isinstance(error, NotReady) else logging.WARNING
                _LOG.log(level, "liveness is not looked at: %s", error)
                self._listening = None

    async def _look(self) -> None:
        now = self._clock()
        as_of = now
        for partition in list(self._durable):
            end = await self._log.end("status", partition)
            # More may have been taken in meanwhile, or the partition taken away.
            if self._durable.get(partition, end) < end:
                as_of = min(as_of, self._latest.get(partition, 0.0))
        if self._listening is None:
            self._listening = now
        if as_of < self._looked or not as_of:
            return  # there is something later on its way
        self._looked = as_of
        listened = now - self._listening >= HEARTBEAT_TIMEOUT_SECONDS
        found = await self._read_models.ask(
            lambda s: changed_liveness(s.connection, s.prefix("liveness"), s.prefix("deliveries"), as_of)
        )
        at = timestamp(as_of)
        new = {
            key: current
            for key, (current, told) in found.items()
            if self._said.get(key, told) != current
            and self._log.partition_of(key[0]) in self._durable
            and (listened or _better(current, told))
        }
        if not new:
            return
        envelopes = [
            envelope_for(
                LivenessReported(
                    organization=organization,
                    name=name,
                    at=at,
                    state=current.state,
                    nodes=current.nodes,
                    heard=current.heard,
                ),
                source=self._source,
                subject=f"{GATEWAY.subject(organization, name)}/liveness",
                time=at,
            )
            for (organization, name), current in new.items()
        ]
        await publish(self._log, envelopes, self._said, new)


def _better(current: Liveness, told: Liveness | None) -> bool:
    if current.state == "healthy":
        return True
    return told is not None and current.heard >= told.heard and current.heard > 0


def _seconds(time: str) -> float:
    try:
        return datetime.fromisoformat(time).timestamp()
    except ValueError:
        return 0.0
