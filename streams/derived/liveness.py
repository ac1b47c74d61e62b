"""Publishes whether gateways are healthy, degraded or offline, from the heartbeats of their nodes.

Liveness is computed soon after a node connected or disconnected, and regularly, since a missing heartbeat is
no message. Unread status messages may contain heartbeats, so liveness is computed as of the last consumed
status. After a start and after an outage of the log, no gateway is reported worse until the heartbeat timeout
has passed, unless a node has connected and disconnected since: the others need time to reconnect.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from time import time
from typing import Any

from projections.deliveries.rows import HEARTBEAT_TIMEOUT_SECONDS
from projections.derived.liveness import Change, Liveness, changed_liveness
from projections.queries import ReadModels
from schemas.aggregates.gateway import GATEWAY
from schemas.envelope import QualifiedName
from schemas.identity import timestamp
from schemas.status import LivenessReported, NodeReported
from streams.derived.publication import StatusPublisher, publication_retry, seconds_of
from streams.log import Log, Record, Topic

_LOG = logging.getLogger(__name__)
EVERY_SECONDS = 2.0
GATHER_SECONDS = 0.1
"""Connections and disconnections within this time are handled together."""


class LivenessPublisher(StatusPublisher[Liveness]):
    """A `ProjectionListener`. `clock` is seconds since 1970."""

    def __init__(
        self,
        log: Log,
        read_models: ReadModels,
        source: str,
        *,
        clock: Callable[[], float] = time,
        every: float = EVERY_SECONDS,
        heartbeats: bool = True,
    ) -> None:
        super().__init__(log, read_models, source, heartbeats=heartbeats)
        self._clock = clock
        self._every = every
        self._durable: dict[int, int] = {}
        self._assigned = 0.0  # when the partitions were assigned
        self._listening: float | None = None  # when the consumption of status messages began
        self._looked = 0.0
        self._connected: set[tuple[str, str, str]] = set()  # nodes that reported since the assignment
        self._lost: set[QualifiedName] = set()  # gateways with a node that connected since, and disconnected
        self._changed = asyncio.Event()

    def assigned(self, positions: Mapping[tuple[Topic, int], int]) -> None:
        self._durable = {partition: at for (topic, partition), at in positions.items() if topic == "status"}
        self._assigned = self._clock()
        self._listening = None
        self._connected.clear()
        self._lost.clear()
        self._forget()

    def taken(self, topic: Topic, partition: int, records: Sequence[Record]) -> None:
        if topic != "status":
            return
        if partition in self._durable:
            self._durable[partition] = records[-1].position
            self._latest[partition] = seconds_of(records[-1].envelope.time)
        for record in records:
            if record.envelope.type == LivenessReported.type():
                data = record.envelope.data
                self._published.pop((str(data.get("organization")), str(data.get("name"))), None)
            elif (
                record.envelope.type == NodeReported.type()
                # Earlier reports are read again when read models lag, or were lost: a node that connected and
                # left before may connect again.
                and seconds_of(record.envelope.time) >= self._assigned
            ):
                self._node(record.envelope.data)

    def _node(self, data: Mapping[str, Any]) -> None:
        node = (str(data.get("organization")), str(data.get("name")), str(data.get("node")))
        if data.get("connected"):
            if node in self._connected:
                return
            self._connected.add(node)
        elif node in self._connected:
            self._connected.discard(node)
            self._lost.add(node[:2])
        else:
            return
        self._changed.set()

    async def run(self) -> None:
        """Publishes until cancelled."""
        retry = publication_retry("liveness is not computed", _LOG)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._changed.wait()
                    await asyncio.sleep(GATHER_SECONDS)
            self._changed.clear()
            await retry(self._look, self._look_after_an_outage)

    async def _look_after_an_outage(self) -> None:
        self._listening = None
        await self._look()

    async def _look(self) -> None:
        now = self._clock()
        as_of = now
        for partition in list(self._durable):
            end = await self._log.end("status", partition)
            # More may have been consumed meanwhile, or the partition revoked.
            if self._durable.get(partition, end) < end:
                as_of = min(as_of, self._latest.get(partition, 0.0))
        if self._listening is None:
            self._listening = now
        if as_of < self._looked or not as_of:
            return  # a later status is not consumed yet
        self._looked = as_of
        listened = now - self._listening >= HEARTBEAT_TIMEOUT_SECONDS
        found = await self._read_models.ask(
            lambda s: changed_liveness(
                s.connection,
                s.prefix("liveness"),
                s.prefix("deliveries"),
                as_of,
                heartbeats=self._heartbeats,
            )
        )
        at = timestamp(as_of)
        new = {
            key: change.now
            for key, change in found.items()
            if self._published.get(key, change.reported) != change.now
            and self._log.partition_of(key[0]) in self._durable
            and (listened or _better(change) or (key in self._lost and not change.silent))
        }

        def report(key: QualifiedName, current: Liveness) -> tuple[LivenessReported, str]:
            organization, name = key
            since = found[key].at or at
            message = LivenessReported(organization=organization, name=name, at=since, **asdict(current))
            return message, f"{GATEWAY.subject(*key)}/liveness"

        await self._publish_new(new, at, report)


def _better(change: Change) -> bool:
    if change.now.state == "healthy":
        return True
    return change.reported is not None and change.now.heard >= change.reported.heard and change.now.heard > 0
