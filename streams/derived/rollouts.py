"""Publishes the rollout status of deployments, derived from the reports of many nodes.

The deployments that a batch touched are computed again from the read models, without counters, and published
on the status topic if they differ from the last published status. So repeated reports change nothing. When a
partition is assigned, all deployments are computed whose last published status may be outdated: a crash may
have prevented its publication. A published status is consumed from the topic again, and replaced if it is
outdated then.

A report about a whole node touches the deployments in progress; an offline gateway touches all deployments
in force. Whether a node is connected is judged at the time of the last consumed status.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import select

from projections.deliveries.queries import observed_deployments
from projections.deliveries.rows import heartbeat_deadline
from projections.derived.liveness import with_awaited
from projections.derived.rollouts import (
    active,
    awaits_nodes,
    differs,
    in_force,
    last_reported,
    outdated,
    rollout,
    unsettled,
)
from projections.queries import ReadModels
from projections.read_transactions import ReadTransaction
from projections.resources.queries import get_many
from projections.resources.tables import tables as resource_tables
from schemas.aggregates.deployment import DEPLOYMENT
from schemas.envelope import QualifiedName
from schemas.identity import timestamp
from schemas.status import DeliveryReported, LivenessReported, NodeReported, RolloutReported
from streams.derived.publication import StatusPublisher, publication_retry, seconds_of
from streams.log import Log, Record, Topic

_LOG = logging.getLogger(__name__)
_DEPLOYMENT_EVENTS = frozenset(event.type() for event in DEPLOYMENT.events)
_DELIVERY, _ROLLOUT = DeliveryReported.type(), RolloutReported.type()
_NODE, _LIVENESS = NodeReported.type(), LivenessReported.type()
MOST = 50
"""Deployments computed and published together: a thread that computes takes turns with the event loop, and
delays what it does."""
QUIET_SECONDS = 0.03
"""Without an event for so long, no change is on its way to a gateway of this process."""
MOST_PAUSES = 4
"""After so many times `QUIET_SECONDS` they are computed nevertheless."""
MANY_QUIET_SECONDS = 0.12
MANY_PAUSES = 8
"""The same while more than `MOST` wait: a load of many. Each is touched several times, and computed once when
gateways report no more."""

Rollout = Mapping[str, Any]
"""The fields of RolloutReported that `projections.derived.rollouts.rollout` returns."""


class RolloutPublisher(StatusPublisher[Rollout]):
    """A `ProjectionListener`."""

    def __init__(
        self,
        log: Log,
        read_models: ReadModels,
        source: str,
        *,
        heartbeats: bool = True,
        gather_seconds: float = 0.0,
    ) -> None:
        """What is reported within `gather_seconds` is computed, and published, together, at first when no
        change is on its way; without them at once."""
        super().__init__(log, read_models, source, heartbeats=heartbeats)
        self._gather_seconds = gather_seconds
        self._touched: dict[QualifiedName, None] = {}
        self._unsettled: set[str] = set()  # organizations where a node disconnected or reported its progress
        self._offline: set[str] = set()  # organizations where a gateway went offline
        self._nodes: dict[tuple[str, str, str], object] = {}  # the last report of each node
        self._sweep: set[int] = set()  # partitions whose outdated deployments are to be computed
        self._partitions: set[int] = set()
        self._changed = asyncio.Event()

    def assigned(self, positions: Mapping[tuple[Topic, int], int]) -> None:
        partitions = {partition for topic, partition in positions if topic == "status"}
        self._sweep = (self._sweep & partitions) | (partitions - self._partitions)
        self._partitions = partitions
        self._nodes.clear()
        self._forget()
        self._changed.set()

    def taken(self, topic: Topic, partition: int, records: Sequence[Record]) -> None:
        for record in records:
            envelope = record.envelope
            if record.fault is not None:
                continue
            if envelope.type in _DEPLOYMENT_EVENTS:
                self._touch(envelope.data, "name")
            elif envelope.type == _DELIVERY:
                self._touch(envelope.data, "deployment")
            elif envelope.type == _ROLLOUT:
                self._consumed_again(envelope.data)
            elif envelope.type == _NODE:
                self._node(envelope.data)
            elif envelope.type == _LIVENESS:
                organization = str(envelope.data.get("organization"))
                (self._offline if envelope.data.get("state") == "offline" else self._unsettled).add(
                    organization
                )
            if topic == "status":
                self._latest[partition] = max(seconds_of(envelope.time), self._latest.get(partition, 0.0))
        if self._touched or self._unsettled or self._offline:
            self._changed.set()

    def _node(self, data: Mapping[str, Any]) -> None:
        """A heartbeat equal to the one before changes nothing."""
        organization = str(data.get("organization"))
        key = (organization, str(data.get("name")), str(data.get("node")))
        if not data.get("connected"):
            self._nodes.pop(key, None)
            self._unsettled.add(organization)
            return
        report = (data.get("connection"), data.get("acknowledged"), data.get("exceptions"))
        if self._nodes.get(key) != report and data.get("acknowledged") is not None:
            self._unsettled.add(organization)
        self._nodes[key] = report

    def _touch(self, data: Mapping[str, Any], name: str) -> None:
        self._touched[str(data.get("organization")), str(data.get(name))] = None

    def _consumed_again(self, data: Mapping[str, Any]) -> None:
        key = (str(data.get("organization")), str(data.get("name")))
        published = self._published.pop(key, None)
        if published is None or any(data.get(name) != value for name, value in published.items()):
            self._touched[key] = None

    async def run(self) -> None:
        """Publishes until cancelled."""
        retry = publication_retry("rollouts are published later", _LOG)
        while True:
            await self._changed.wait()
            await asyncio.sleep(self._gather_seconds)
            self._changed.clear()
            await retry(self._look)

    async def _no_change(self) -> None:
        """Returns as soon as no change is on its way; with changes all the time, after `MOST_PAUSES`, and
        with reports about many after `MANY_PAUSES`."""
        if not self._gather_seconds:
            return
        many = len(self._touched) > MOST
        topics: Sequence[Topic] = ("events", "status") if many else ("events",)
        for _ in range(MANY_PAUSES if many else MOST_PAUSES):
            before = self._ends(topics)
            await asyncio.sleep(MANY_QUIET_SECONDS if many else QUIET_SECONDS)
            if self._ends(topics) == before:
                return

    def _ends(self, topics: Sequence[Topic]) -> list[int]:
        return [self._log.readable(topic, p) for topic in topics for p in self._partitions]

    async def _look(self) -> None:
        """Publishes touched deployments. If log or read models are unavailable, it raises; they stay
        touched."""
        if self._sweep:
            partitions = set(self._sweep)
            found = await self._read_models.ask(_outdated)
            self._touched |= {k: None for k in found if self._log.partition_of(k[0]) in partitions}
            self._sweep -= partitions
        if self._offline:
            offline = set(self._offline)
            found = await self._read_models.ask(_in_force)
            self._touched |= {k: None for k in found if k[0] in offline}
            self._offline -= offline
        if self._unsettled:
            organizations = sorted(self._unsettled)
            found = await self._read_models.ask(
                lambda s: unsettled(s.connection, s.prefix("rollouts"), s.prefix("resources"), organizations)
            )
            self._touched |= dict.fromkeys(found)
            self._unsettled.difference_update(organizations)
        while self._touched:
            await self._no_change()
            keys = list(islice(self._touched, MOST))
            for key in keys:
                del self._touched[key]
            try:
                await self._publish(keys)
            except BaseException:
                self._touched = {**dict.fromkeys(keys), **self._touched}
                raise

    async def _publish(self, keys: Sequence[QualifiedName]) -> None:
        latest = {
            k[0]: self._latest.get(self._log.partition_of(k[0])) if self._heartbeats else None for k in keys
        }
        states = await self._read_models.ask(lambda s: _states(s, keys, latest))
        new: dict[QualifiedName, Rollout] = {}
        for key, (reported, now) in states.items():
            assigned = self._log.partition_of(key[0]) in self._partitions
            if assigned and differs(self._published.get(key, reported), now):
                new[key] = now
        at = timestamp()

        def report(key: QualifiedName, now: Rollout) -> tuple[RolloutReported, str]:
            organization, name = key
            message = RolloutReported(organization=organization, name=name, at=at, **now)
            return message, DEPLOYMENT.subject(*key)

        await self._publish_new(new, at, report)


def _outdated(s: ReadTransaction) -> list[QualifiedName]:
    rollouts, resources, deliveries = (s.prefix(name) for name in ("rollouts", "resources", "deliveries"))
    return outdated(s.connection, rollouts, resources, deliveries, s.prefixes.get("liveness"))


def _in_force(s: ReadTransaction) -> list[QualifiedName]:
    v = resource_tables(s.prefix("resources")).of[DEPLOYMENT.name].versions
    wanted = select(v.c.organization, v.c.name).where(v.c.valid_to.is_(None), v.c.document.is_not(None))
    keys = {(organization, name) for organization, name in s.connection.execute(wanted.where(active(v)))}
    return sorted(keys | set(in_force(s.connection, s.prefix("rollouts"))))


def _states(
    s: ReadTransaction, keys: Sequence[QualifiedName], latest: Mapping[str, float | None]
) -> dict[QualifiedName, tuple[Rollout | None, Rollout]]:
    """The last published and the current status of each deployment that exists, unless its nodes are awaited;
    `latest` is when the last status of an organization was reported, in seconds since 1970."""
    names: dict[str, list[str]] = {}
    for organization, name in keys:
        names.setdefault(organization, []).append(name)
    states: dict[QualifiedName, tuple[Rollout | None, Rollout]] = {}
    for organization, wanted in names.items():
        rows = get_many(s, DEPLOYMENT, organization, wanted)
        at = latest.get(organization)
        since = None if at is None else heartbeat_deadline(at)
        known = observed_deployments(s, organization, rows, since)
        known = with_awaited(s, organization, known)
        reported = last_reported(s.connection, s.prefix("rollouts"), organization, wanted)
        for row in rows:
            # Computed again when a node connects, or the gateway is reported offline.
            if not awaits_nodes(row, known[row.name]):
                states[organization, row.name] = (reported.get(row.name), rollout(row, known[row.name]))
    return states
