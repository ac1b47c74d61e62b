"""Tells the state of deployments, derived from what many nodes report.

Nothing is counted here. What a batch touched is computed anew from the read models it became part of, and
told on the status topic when it is not what was told last. So it does not matter how often a report comes,
and what a crash left untold is found by looking at all deployments in force when a partition is taken over.
What was told comes back on the topic: if it is not right any more by then, it is told anew.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select

from projections.deliveries import deliveries_of, nodes_of
from projections.failures import ReadModelsUnavailable, unavailable
from projections.queries import NotReady, ReadModels, Snapshot
from projections.resource_queries import get_many
from projections.resource_tables import tables as resource_tables
from projections.rollouts import Key, differs, in_force, rollout, told_of
from schemas.deployment import DEPLOYMENT
from schemas.identity import timestamp
from schemas.status import DeliveryReported, NodeReported, RolloutReported
from streams.faust.following import status_envelope
from streams.faust.telling import tell
from streams.log import Log, LogUnavailable, Record, Topic

_LOG = logging.getLogger(__name__)
_LATER = (LogUnavailable, NotReady, ReadModelsUnavailable)
_DEPLOYMENT_EVENTS = frozenset(event.type() for event in DEPLOYMENT.events)
MOST = 500
"""Deployments computed, and told, together."""
RETRY_SECONDS = 0.5

Told = Mapping[str, Any]
"""The fields of RolloutReported that `projections.rollouts.rollout` gives."""


class RolloutTelling:
    """A Follower. Belongs to one event loop."""

    def __init__(self, log: Log, read_models: ReadModels, source: str) -> None:
        self._log = log
        self._read_models = read_models
        self._source = source
        self._touched: dict[Key, None] = {}
        self._waiting: set[str] = set()  # organizations where a node left: others may not wait for it
        self._sweep: set[int] = set()
        self._said: dict[Key, Told] = {}  # told, and not yet back
        self._followed: set[int] = set()
        self._news = asyncio.Event()

    def assigned(self, places: Mapping[tuple[Topic, int], int]) -> None:
        partitions = {partition for topic, partition in places if topic == "status"}
        self._sweep = (self._sweep & partitions) | (partitions - self._followed)
        self._followed = partitions
        self._said.clear()
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
            elif envelope.type == NodeReported.type() and not envelope.data.get("connected"):
                self._waiting.add(str(envelope.data.get("organization")))
        if self._touched or self._waiting:
            self._news.set()

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
                _LOG.warning("rollouts are told later: %s", error)
                self._news.set()
                await asyncio.sleep(RETRY_SECONDS)

    async def _look(self) -> None:
        """Raises whatever is unavailable; what was not told stays to be looked at."""
        if self._sweep:
            partitions = set(self._sweep)
            found = await self._read_models.ask(_in_force)
            self._touched |= {k: None for k in found if self._log.partition_of(k[0]) in partitions}
            self._sweep -= partitions
        if self._waiting:
            organizations = set(self._waiting)
            found = await self._read_models.ask(
                lambda s: in_force(s.connection, s.prefix("rollouts"), serving=False)
            )
            self._touched |= {k: None for k in found if k[0] in organizations}
            self._waiting -= organizations
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
        states = await self._read_models.ask(lambda s: _states(s, keys))
        new: dict[Key, Told] = {}
        for key, (told, now) in states.items():
            if self._log.partition_of(key[0]) in self._followed and differs(self._said.get(key, told), now):
                new[key] = now
        if not new:
            return
        at = timestamp()
        envelopes = [
            status_envelope(
                RolloutReported(organization=organization, name=name, at=at, **now),
                DEPLOYMENT.subject(organization, name),
                self._source,
            )
            for (organization, name), now in new.items()
        ]
        await tell(self._log, envelopes, self._said, new)


def _in_force(s: Snapshot) -> list[Key]:
    v = resource_tables(s.prefix("resources")).of[DEPLOYMENT.name].versions
    active = select(v.c.organization, v.c.name).where(
        v.c.valid_to.is_(None), v.c.document.is_not(None), v.c.document["state"].as_string() == "active"
    )
    keys = {(organization, name) for organization, name in s.connection.execute(active)}
    return sorted(keys | set(in_force(s.connection, s.prefix("rollouts"))))


def _states(s: Snapshot, keys: Sequence[Key]) -> dict[Key, tuple[Told | None, Told]]:
    """What was told of each deployment that exists, and how it is now."""
    names: dict[str, list[str]] = {}
    for organization, name in keys:
        names.setdefault(organization, []).append(name)
    states: dict[Key, tuple[Told | None, Told]] = {}
    for organization, wanted in names.items():
        rows = get_many(s.connection, s.prefix("resources"), DEPLOYMENT, organization, wanted)
        nodes = nodes_of(s.connection, s.prefix("deliveries"), organization)
        reported: dict[str, list[dict[str, Any]]] = {}
        for delivery in deliveries_of(s.connection, s.prefix("deliveries"), organization, wanted):
            reported.setdefault(delivery["deployment"], []).append(delivery)
        told = told_of(s.connection, s.prefix("rollouts"), organization, wanted)
        for row in rows:
            now = rollout(row, reported.get(row.name, []), nodes)
            states[organization, row.name] = (told.get(row.name), now)
    return states
