"""Tells the state of deployments, derived from what many nodes report.

Nothing is counted here. What a batch touched is computed anew from the read models it became part of, and
told on the status topic when it is not what was told last. So it does not matter how often a report comes,
and what a crash left untold is found by looking at all deployments in force when a partition is taken over.
What was told comes back on the topic: if it is not right any more by then, it is told anew.

What nodes report as a whole touches the deployments that are on their way; that a gateway is offline, all
that are in force. Which nodes are there is judged by the time of what was taken in last.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select

from projections.deliveries.queries import observed_deployments
from projections.deliveries.rows import heartbeat_deadline
from projections.derived.rollouts import Key, active, differs, in_force, last_reported, rollout, unsettled
from projections.failures import ReadModelsUnavailable, unavailable
from projections.queries import NotReady, ReadModels, ReadTransaction
from projections.resources.queries import get_many
from projections.resources.tables import tables as resource_tables
from schemas.deployment import DEPLOYMENT
from schemas.envelopes import envelope_for
from schemas.identity import timestamp, unix_seconds
from schemas.status import DeliveryReported, LivenessReported, NodeReported, RolloutReported
from streams.faust.publication import publish
from streams.log import Log, LogUnavailable, Record, Topic

_LOG = logging.getLogger(__name__)
_LATER = (LogUnavailable, NotReady, ReadModelsUnavailable)
_DEPLOYMENT_EVENTS = frozenset(event.type() for event in DEPLOYMENT.events)
MOST = 500
"""Deployments computed, and told, together."""
RETRY_SECONDS = 0.5

Told = Mapping[str, Any]
"""The fields of RolloutReported that `projections.derived.rollouts.rollout` gives."""


class RolloutPublisher:
    """A Follower. Belongs to one event loop."""

    def __init__(self, log: Log, read_models: ReadModels, source: str) -> None:
        self._log = log
        self._read_models = read_models
        self._source = source
        self._touched: dict[Key, None] = {}
        self._waiting: set[str] = set()  # organizations where a node left, or answered as a whole
        self._offline: set[str] = set()  # organizations where a gateway went offline
        self._nodes: dict[tuple[str, str, str], object] = {}  # what each node reported last
        self._latest: dict[int, float] = {}  # when the last status taken in was reported
        self._sweep: set[int] = set()
        self._said: dict[Key, Told] = {}  # told, and not yet back
        self._followed: set[int] = set()
        self._news = asyncio.Event()

    def assigned(self, places: Mapping[tuple[Topic, int], int]) -> None:
        partitions = {partition for topic, partition in places if topic == "status"}
        self._sweep = (self._sweep & partitions) | (partitions - self._followed)
        self._followed = partitions
        self._said.clear()
        self._nodes.clear()
        self._latest.clear()
        self._news.set()

    def taken(self, topic: Topic, partition: int, records: Sequence[Record]) -> None:
        for record in records:
            envelope = record.envelope
            if record.fault is not None:
                continue
            if envelope.type in _DEPLOYMENT_EVENTS:
                self._touch(envelope.data, "name")
            elif envelope.type == DeliveryReported.type():
                self._touch(envelope.data, "deployment")
            elif envelope.type == RolloutReported.type():
                self._returned(envelope.data)
            elif envelope.type == NodeReported.type():
                self._node(envelope.data)
            elif envelope.type == LivenessReported.type():
                organization = str(envelope.data.get("organization"))
                (self._offline if envelope.data.get("state") == "offline" else self._waiting).add(
                    organization
                )
            if topic == "status":
                self._latest[partition] = max(_seconds(envelope.time), self._latest.get(partition, 0.0))
        if self._touched or self._waiting or self._offline:
            self._news.set()

    def _node(self, data: Mapping[str, Any]) -> None:
        """A heartbeat that says what the one before said changes nothing."""
        organization = str(data.get("organization"))
        key = (organization, str(data.get("name")), str(data.get("node")))
        if not data.get("connected"):
            self._nodes.pop(key, None)
            self._waiting.add(organization)
            return
        said = (data.get("connection"), data.get("acknowledged"), data.get("exceptions"))
        if self._nodes.get(key) != said and data.get("acknowledged") is not None:
            self._waiting.add(organization)
        self._nodes[key] = said

    def _touch(self, data: Mapping[str, Any], name: str) -> None:
        self._touched[str(data.get("organization")), str(data.get(name))] = None

    def _returned(self, data: Mapping[str, Any]) -> None:
        key = (str(data.get("organization")), str(data.get("name")))
        said = self._said.pop(key, None)
        if said is None or any(data.get(name) != value for name, value in said.items()):
            self._touched[key] = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._look()
            except Exception as error:
                if not (isinstance(error, _LATER) or unavailable(error)):
                    raise
                # At a first start there are no read models yet: nothing is wrong.
                level = logging.DEBUG if isinstance(error, NotReady) else logging.WARNING
                _LOG.log(level, "rollouts are told later: %s", error)
                self._news.set()
                await asyncio.sleep(RETRY_SECONDS)

    async def _look(self) -> None:
        """Raises whatever is unavailable; what was not told stays to be looked at."""
        if self._sweep:
            partitions = set(self._sweep)
            found = await self._read_models.ask(_in_force)
            self._touched |= {k: None for k in found if self._log.partition_of(k[0]) in partitions}
            self._sweep -= partitions
        if self._offline:
            offline = set(self._offline)
            found = await self._read_models.ask(_in_force)
            self._touched |= {k: None for k in found if k[0] in offline}
            self._offline -= offline
        if self._waiting:
            waiting = sorted(self._waiting)
            found = await self._read_models.ask(
                lambda s: unsettled(s.connection, s.prefix("rollouts"), s.prefix("resources"), waiting)
            )
            self._touched |= dict.fromkeys(found)
            self._waiting.difference_update(waiting)
        while self._touched:
            keys = list(self._touched)[:MOST]
            for key in keys:
                del self._touched[key]
            try:
                await self._tell(keys)
            except BaseException:
                self._touched = {**dict.fromkeys(keys), **self._touched}
                raise

    async def _tell(self, keys: Sequence[Key]) -> None:
        heard = {k[0]: self._latest.get(self._log.partition_of(k[0])) for k in keys}
        states = await self._read_models.ask(lambda s: _states(s, keys, heard))
        new: dict[Key, Told] = {}
        for key, (told, now) in states.items():
            if self._log.partition_of(key[0]) in self._followed and differs(self._said.get(key, told), now):
                new[key] = now
        if not new:
            return
        at = timestamp()
        envelopes = [
            envelope_for(
                RolloutReported(organization=organization, name=name, at=at, **now),
                source=self._source,
                subject=DEPLOYMENT.subject(organization, name),
                time=at,
            )
            for (organization, name), now in new.items()
        ]
        await publish(self._log, envelopes, self._said, new)


def _in_force(s: ReadTransaction) -> list[Key]:
    v = resource_tables(s.prefix("resources")).of[DEPLOYMENT.name].versions
    wanted = select(v.c.organization, v.c.name).where(v.c.valid_to.is_(None), v.c.document.is_not(None))
    keys = {(organization, name) for organization, name in s.connection.execute(wanted.where(active(v)))}
    return sorted(keys | set(in_force(s.connection, s.prefix("rollouts"))))


def _states(
    s: ReadTransaction, keys: Sequence[Key], heard: Mapping[str, float | None]
) -> dict[Key, tuple[Told | None, Told]]:
    """What was told of each deployment that exists, and how it is now; `heard` says per organization when
    the last status was reported, in seconds since 1970."""
    names: dict[str, list[str]] = {}
    for organization, name in keys:
        names.setdefault(organization, []).append(name)
    states: dict[Key, tuple[Told | None, Told]] = {}
    for organization, wanted in names.items():
        rows = get_many(s.connection, s.prefix("resources"), DEPLOYMENT, organization, wanted)
        latest = heard.get(organization)
        since = None if latest is None else heartbeat_deadline(latest)
        known = observed_deployments(s.connection, s.prefix("deliveries"), organization, rows, since)
        told = last_reported(s.connection, s.prefix("rollouts"), organization, wanted)
        for row in rows:
            states[organization, row.name] = (told.get(row.name), rollout(row, known[row.name]))
    return states


def _seconds(time: str) -> float:
    try:
        return unix_seconds(time)
    except ValueError:
        return 0.0
