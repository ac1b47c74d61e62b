"""All queries on the read models that the HTTP API and the command line use."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from time import time
from typing import Any, ParamSpec, Protocol, TypeVar

import orjson
from sqlalchemy import and_, select

from projections.deliveries.deployment_facts import facts, facts_as_of
from projections.deliveries.live import LiveFilter, LiveRevision, live, stop_events, time_of
from projections.deliveries.queries import connected_counts, deliveries_of, nodes_of, observed_deployments
from projections.deliveries.rows import Delivery, heartbeat_deadline
from projections.derived.gateway_page import GatewayPage, gateway_page
from projections.derived.liveness import with_awaited
from projections.failures import ReadModelsUnavailable
from projections.operations import operation
from projections.pages import NOW, AsOf, Page, PointInTime, Row, cursor_after, point_in_time, read_cursor
from projections.read_transactions import ReadTransaction, ReadTransactions
from projections.readmodel import Recorded, Unprojectable
from projections.resources import queries as resources
from projections.resources.point_reads import NoAnswer, PointReads
from projections.store import GENERATIONS, PARKED, Store, as_dicts
from schemas.aggregate import Aggregate, Part
from schemas.aggregates.deployment import DEPLOYMENT
from schemas.limits import LARGEST_PAGE

P = ParamSpec("P")
T = TypeVar("T")
Dicts = list[dict[str, Any]]  # `ReadModels.list` hides the name `list` in the class

MOST_ROWS = 1000
"""Maximum number of rows per page."""
RESOURCES = "resources"
ANSWERED_SECONDS = 5.0
"""How long a query waits for what callers were answered with."""


class Progress(Protocol):
    """The read models' progress in this process."""

    def keeps_up(self, read_model: str, partition: int, position: int, /) -> bool:
        """Whether a read model will soon contain a position of a partition."""
        ...

    async def wait_for(self, read_model: str, partition: int, position: int, /) -> None:
        """Returns once it does."""
        ...


class ReadModels:
    """Each query reads in one transaction, from the tables that are live in it.

    For names that do not exist the result is None or empty. Invalid arguments raise ValueError with a
    message, queries before the projector's first run NotReady; ReadModelsUnavailable, with the lags that
    `behind` returns, is raised if PostgreSQL does not answer.
    """

    def __init__(
        self,
        store: Store,
        *,
        partition_of: Callable[[str], int] = lambda organization: 0,
        threads: int = 2,
        behind: Callable[[], Mapping[str, int]] = dict,
        clock: Callable[[], float] = time,
        progress: Progress | None = None,
    ) -> None:
        """`progress`: where given, callers of this process are answered from decisions (`get_decided`)."""
        self._progress = progress
        self._answered: dict[int, int] = {}
        """By partition: the position that the read models must have reached before they are queried."""
        self._store = store
        self._partition_of = partition_of
        self._transactions = ReadTransactions(store, threads, behind)
        self._point_reads = None if store.shared else PointReads(store)
        self._clock = clock

    def close(self) -> None:
        self._transactions.close()
        if self._point_reads is not None:
            self._point_reads.close()

    async def get(
        self,
        aggregate: Aggregate,
        organization: str,
        name: str,
        as_of: AsOf = None,
        *,
        late: bool = False,
    ) -> Row | None:
        """A resource, or None if it does not exist at that moment. With `late` the row may lack the changes
        that `get_decided` returned."""
        at = point_in_time(as_of)
        if self._answered and not late:
            await self._until_answered()
        owner = name if aggregate.top else organization
        if at is NOW and self._point_reads is not None:
            with suppress(NoAnswer):  # the query below raises the reason, if it persists
                return self._point_reads.get(aggregate, owner, name)
        return await self._run(lambda s: resources.get(s, aggregate, owner, name, at))

    def get_decided(
        self, aggregate: Aggregate, organization: str, name: str, version: int, events: Sequence[Recorded]
    ) -> Row | None:
        """The resource at `version` after `events`, the last ones, before the read models have them. Queries
        from now on wait until they do, so whoever is answered with this row sees it. None if it is to be read
        after the projector has written it."""
        if self._progress is None or self._point_reads is None or not events:
            return None
        last = events[-1]
        if not self._progress.keeps_up(RESOURCES, last.partition, last.position):
            return None
        own = [e for e in events if e.envelope.subject == aggregate.subject(organization, name)]
        owner = name if aggregate.top else organization
        try:
            row = self._point_reads.get_after(aggregate, owner, name, version, own)
        except (NoAnswer, Unprojectable):
            return None
        if row is not None:
            self._answered[last.partition] = max(last.position, self._answered.get(last.partition, 0))
        return row

    async def _until_answered(self) -> None:
        """Waits until the read models have all that callers were answered with. Raises
        ReadModelsUnavailable."""
        assert self._progress is not None
        for partition, position in tuple(self._answered.items()):
            try:
                async with asyncio.timeout(ANSWERED_SECONDS):
                    await self._progress.wait_for(RESOURCES, partition, position)
            except TimeoutError as error:
                raise ReadModelsUnavailable({}) from error
            if self._answered.get(partition) == position:
                del self._answered[partition]

    async def _run(self, question: Callable[[ReadTransaction], T]) -> T:
        if self._answered:
            await self._until_answered()
        return await self._transactions.run(question)

    async def refers_to_document(self, organization: str, sha256: str) -> bool:
        """Whether a revision of an API of the organization was created from this document."""
        return await self._run(lambda s: resources.refers_to_document(s, organization, sha256))

    async def list(
        self,
        aggregate: Aggregate,
        organization: str,
        *,
        limit: int = 100,
        cursor: str | None = None,
        as_of: AsOf = None,
        where: Mapping[str, str] | None = None,
    ) -> Page:
        """A page of resources by name. `where` compares top-level fields of the document with text."""
        at, after, wanted = point_in_time(as_of), read_cursor(cursor, ""), dict(where or {})
        for field in wanted:
            if field not in aggregate.view.model_fields:
                known = ", ".join(aggregate.view.model_fields)
                raise ValueError(f"{aggregate.plural} have no field {field!r}; there are {known}.")
        limit = _checked_limit(limit)

        def run(s: ReadTransaction) -> Page:
            rows = resources.page(s, aggregate, organization, at, after=after, limit=limit + 1, where=wanted)
            return self._page(s, rows, limit, organization, lambda row: row.name)

        return await self._run(run)

    async def part(
        self,
        aggregate: Aggregate,
        part: Part,
        organization: str,
        name: str,
        key: str | int,
        as_of: AsOf = None,
    ) -> Row | None:
        """One entry of a part, such as a revision."""
        at, i = point_in_time(as_of), aggregate.parts.index(part)
        return await self._run(lambda s: resources.entry(s, aggregate, i, organization, name, str(key), at))

    async def parts(
        self,
        aggregate: Aggregate,
        part: Part,
        organization: str,
        name: str,
        *,
        limit: int = 100,
        cursor: str | None = None,
        as_of: AsOf = None,
    ) -> Page:
        """A page of a part's entries, oldest first."""
        at, after, i = point_in_time(as_of), read_cursor(cursor, 0), aggregate.parts.index(part)
        limit = _checked_limit(limit)

        def ask(s: ReadTransaction) -> Page:
            rows = resources.entries(s, aggregate, i, organization, name, at, after=after, limit=limit + 1)
            return self._page(s, rows, limit, organization, lambda row: row.position)

        return await self._run(ask)

    async def operation(self, command_id: str, organization: str | None = None) -> dict[str, Any] | None:
        """The fields of `schemas.outcome.Outcome` of a command, None while it is not decided."""
        return await self._run(
            lambda s: operation(s.connection, s.prefix("operations"), command_id, organization)
        )

    async def deployment_facts(
        self, organization: str, deployment: str, as_of: AsOf = None
    ) -> dict[str, Any] | None:
        """As `projections.deliveries.deployment_facts.facts`; None if there is no such deployment."""
        at = point_in_time(as_of)

        def ask(s: ReadTransaction) -> dict[str, Any] | None:
            row = resources.get(s, DEPLOYMENT, organization, deployment, at)
            return None if row is None else self._facts(s, organization, [row], at, nodes=True)[deployment]

        return await self._run(ask)

    async def facts_of(
        self, organization: str, deployments: Sequence[str], as_of: AsOf = None
    ) -> dict[str, dict[str, Any]]:
        """The facts of several deployments by name, without those of each node, in as few statements as for
        one."""
        at = point_in_time(as_of)

        def ask(s: ReadTransaction) -> dict[str, dict[str, Any]]:
            rows = resources.get_many(s, DEPLOYMENT, organization, deployments, at)
            return self._facts(s, organization, rows, at, nodes=False)

        return await self._run(ask)

    def _facts(
        self, s: ReadTransaction, organization: str, rows: Sequence[Row], at: PointInTime, *, nodes: bool
    ) -> dict[str, dict[str, Any]]:
        if at == NOW:
            known = observed_deployments(s, organization, rows, self._heartbeat_deadline())
            known = with_awaited(s, organization, known)
            superseded = [
                (gateway, row.name)
                for row in rows
                for gateway, api in known[row.name].apis.items()
                if api.live == row.name and gateway not in row.document.get("gateways", ())
            ]
            for (gateway, name), end in stop_events(s, organization, superseded).items():
                known[name] = replace(
                    known[name], stopped_at={**known[name].stopped_at, gateway: end.position}
                )
            return {row.name: facts(row, known[row.name], nodes=nodes) for row in rows}
        then = time_of(s, organization, at) or ""
        reached: dict[str, dict[str, Delivery]] = {row.name: {} for row in rows}
        for delivery in deliveries_of(s, organization, list(reached)):
            reached[delivery.deployment][delivery.gateway] = delivery
        apis = list(dict.fromkeys(row.document["api"] for row in rows if "api" in row.document))
        of_api: dict[str, dict[str, dict[str, Any]]] = {}
        for entry in live(s, LiveFilter(organization, None, apis), then, ("", ""), None):
            shown = {"deployment": entry.deployment, "revision": entry.revision, "since": entry.since}
            of_api.setdefault(entry.api, {})[entry.gateway] = shown
        return {
            row.name: facts_as_of(row, reached[row.name], of_api.get(row.document.get("api", ""), {}), then)
            for row in rows
        }

    async def reports(self, organization: str, deployments: Sequence[str]) -> Dicts:
        """The facts that some deployments reached on each gateway: gateway, deployment, node (`*`) and fact
        (`acknowledged` or `serving`)."""

        def ask(s: ReadTransaction) -> Dicts:
            found = deliveries_of(s, organization, deployments)
            return [
                {"gateway": d.gateway, "deployment": d.deployment, "node": "*", "fact": fact}
                for d in found
                for fact, at in (("acknowledged", d.acknowledged_at), ("serving", d.serving_at))
                if at is not None
            ]

        return await self._run(ask)

    async def live(
        self,
        organization: str,
        *,
        gateways: Sequence[str] | None = None,
        apis: Sequence[str] | None = None,
        as_of: AsOf = None,
        after: tuple[str, str] = ("", ""),
        limit: int | None = None,
    ) -> Dicts:
        """The live revisions, by gateway and API: gateway, api, revision, deployment, since, and `nodes`
        (`{connected, acknowledged}`, None with `as_of`). `after`: only those after this gateway and API."""
        at = point_in_time(as_of)

        def ask(s: ReadTransaction) -> Dicts:
            question = LiveFilter(organization, gateways, apis, self._heartbeat_deadline())
            found = live(s, question, time_of(s, organization, at), after, limit)
            return [_live_document(entry) for entry in found]

        return await self._run(ask)

    async def nodes(self, organization: str, gateway: str) -> Dicts:
        """The nodes of a gateway by name: node, connected, agent, connection, first_seen, last_seen,
        listener_refused."""

        def ask(s: ReadTransaction) -> Dicts:
            hidden = ("organization", "gateway", "acknowledged", "reported_to")
            found = nodes_of(s, organization, gateway, self._heartbeat_deadline())
            return [{name: value for name, value in n.items() if name not in hidden} for n in found]

        return await self._run(ask)

    async def connected(self, organization: str, gateways: Sequence[str]) -> dict[str, int]:
        """The number of connected nodes of each gateway."""
        since = self._heartbeat_deadline()
        return await self._run(lambda s: connected_counts(s, organization, gateways, since))

    async def gateway_page(self, organization: str, gateway: str) -> GatewayPage:
        """The nodes of a gateway, its liveness and the facts of its deployments, from one transaction."""
        now, heartbeats = self._clock(), self._store.shared
        return await self._run(lambda s: gateway_page(s, organization, gateway, now, heartbeats=heartbeats))

    def _heartbeat_deadline(self) -> str | None:
        """The time of the oldest heartbeat that a connected node may have; None if nodes send none."""
        return heartbeat_deadline(self._clock()) if self._store.shared else None

    async def parked(self) -> Dicts:
        """The records that the live read models could not project: read_model, topic, partition, position,
        subject, type, id, reason, time."""
        g, p = GENERATIONS.c, PARKED.c
        wanted = (
            select(p.read_model, p.topic, p.partition, p.position, p.subject, p.type, p.id, p.reason, p.time)
            .join_from(PARKED, GENERATIONS, and_(g.read_model == p.read_model, g.generation == p.generation))
            .where(g.state == "live", p.skipped_at.is_(None))
            .order_by(p.read_model, p.topic, p.partition, p.position)
        )
        return await self._run(lambda s: as_dicts(s.connection.execute(wanted)))

    async def position(self, read_model: str = "resources", partition: int = 0) -> int:
        """The position up to which a read model has projected its topic."""
        return await self._run(lambda s: s.positions.get((read_model, partition), 0))

    def _page(
        self,
        s: ReadTransaction,
        rows: Iterator[Row],
        limit: int,
        organization: str,
        key: Callable[[Row], int | str],
    ) -> Page:
        """A page of up to `limit` rows; it ends after `LARGEST_PAGE` bytes, but has at least one row."""
        shown: list[Row] = []
        more, left = None, LARGEST_PAGE
        for row in rows:
            if len(shown) == limit or left <= 0:
                more = cursor_after(key(shown[-1]))
                break
            shown.append(row)
            left -= len(orjson.dumps(row.document))
        return Page(tuple(shown), more, s.positions.get(("resources", self._partition_of(organization)), 0))

    async def ask(self, question: Callable[[ReadTransaction], T]) -> T:
        """The result of `question` on any read models, from one transaction."""
        return await self._run(question)


def _checked_limit(limit: int) -> int:
    if not 1 <= limit <= MOST_ROWS:
        raise ValueError(f"The limit must be between 1 and {MOST_ROWS}.")
    return limit


def _live_document(entry: LiveRevision) -> dict[str, Any]:
    nodes = None
    if entry.nodes is not None:
        connected, acknowledged = entry.nodes
        nodes = {"connected": connected, "acknowledged": acknowledged}
    return {
        "gateway": entry.gateway,
        "api": entry.api,
        "revision": entry.revision,
        "deployment": entry.deployment,
        "since": entry.since,
        "nodes": nodes,
    }
