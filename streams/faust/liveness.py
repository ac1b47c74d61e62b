"""Tells whether gateways are healthy, degraded or offline: from what was heard of their nodes, and silence.

Silence counts only while somebody listened: what was not heard because the log could not be reached, or is
still to be read, is not silence.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from time import time

from projections.failures import unavailable
from projections.liveness import HEARD_SECONDS, Key, Liveness, changed
from projections.queries import NotReady, ReadModels
from schemas.gateway import GATEWAY
from schemas.identity import timestamp
from schemas.status import LivenessReported
from streams.faust.following import status_envelope
from streams.log import Log, LogUnavailable, Record, Topic

_LOG = logging.getLogger(__name__)
EVERY_SECONDS = 2.0


class LivenessTelling:
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
        self._listening: dict[int, float] = {}
        self._said: dict[Key, Liveness] = {}  # told, and not yet back

    def assigned(self, places: Mapping[tuple[Topic, int], int]) -> None:
        self._durable = {partition: at for (topic, partition), at in places.items() if topic == "status"}
        self._listening.clear()
        self._said.clear()

    def taken(self, topic: Topic, partition: int, records: Sequence[Record]) -> None:
        if topic != "status":
            return
        if partition in self._durable:
            self._durable[partition] = records[-1].position
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
                if not (isinstance(error, LogUnavailable | NotReady) or unavailable(error)):
                    raise
                _LOG.warning("liveness is not looked at: %s", error)
                self._listening.clear()

    async def _look(self) -> None:
        now = self._clock()
        for partition, at in list(self._durable.items()):
            if at < await self._log.end("status", partition):
                self._listening.pop(partition, None)
            else:
                self._listening.setdefault(partition, now)
        if not self._listening:
            return
        found = await self._read_models.ask(
            lambda s: changed(s.connection, s.prefix("liveness"), s.prefix("deliveries"), now)
        )
        new = {
            key: current
            for key, (current, told) in found.items()
            if self._said.get(key, told) != current and self._may_tell(key, current, told, now)
        }
        if not new:
            return
        at = timestamp(now)
        envelopes = [
            status_envelope(
                LivenessReported(
                    organization=organization,
                    name=name,
                    at=at,
                    state=current.state,
                    nodes=current.nodes,
                    heard=current.heard,
                ),
                f"{GATEWAY.subject(organization, name)}/liveness",
                self._source,
            )
            for (organization, name), current in new.items()
        ]
        await self._log.append("status", envelopes)
        self._said |= new

    def _may_tell(self, key: Key, current: Liveness, told: Liveness | None, now: float) -> bool:
        """What is better at once; what is worse after having listened for as long as a node may be silent."""
        since = self._listening.get(self._log.partition_of(key[0]))
        if since is None:
            return False
        better = told is not None and current.heard >= told.heard and current.heard > 0
        return better or current.state == "healthy" or now - since >= HEARD_SECONDS
