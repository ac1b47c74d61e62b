"""Gateway sync in a separate process: it receives acknowledgements and rejections as status messages."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateways.config_resource import ConfigResource
from schemas.envelope import Envelope
from schemas.identity import timestamp, uuid7
from schemas.message import Command
from schemas.status import DeliveryReported, Fact, NodeException, NodeReported, Status
from signalbox.roles.gateway_sync import TRANSLATORS
from streams.gateway_sync.config_view import ConfigView
from streams.gateway_sync.gateway_status import GatewayStatusConsumer
from streams.gateway_sync.sync import GatewaySync
from streams.gateway_sync.verdicts import LEARN_SECONDS
from streams.log import Fault, Record
from streams.sqlite.config import SqliteConfigTopic
from tests.commands.shop import deploy, publish, spec
from tests.streams.decider_cases import Desk, desk, envelope
from tests.streams.test_gateway_sync import DEFAULT_RESOURCES, EAST
from xds.types import ROUTES


@dataclass
class Apart:
    """Gateway sync with nothing but the log and the config topic."""

    at: Desk
    config: SqliteConfigTopic
    sync: GatewaySync = field(init=False)
    view: ConfigView = field(init=False)
    answers: GatewayStatusConsumer = field(init=False)
    position: int = 0
    reports: list[DeliveryReported] = field(default_factory=list[DeliveryReported])
    received: list[DeliveryReported] = field(default_factory=list[DeliveryReported])
    now: float = 0.0

    async def start(self, *, learned: bool = True) -> None:
        """Begins, or begins again with nothing remembered; `learned`: long enough ago to know all nodes."""
        self.view = ConfigView(self.config)
        self.sync = GatewaySync(
            log=self.at.log,
            config=self.view,
            translators=TRANSLATORS,
            current=self.view.entry,
            report=self.reports.extend,
            probe_secret=lambda gateway: "secret",
            compiled=lambda entries, seconds: None,
        )
        async for entries in self.config.load():
            self.view.apply(entries)
            self.sync.load(entries)
        self.sync.changes.verdicts.clock = lambda: self.now
        self.answers = GatewayStatusConsumer(self.at.log, self.sync, self.view, self.received.append)
        self.answers.begin(await self.at.log.end("status", 0))
        if learned:
            self.now += LEARN_SECONDS

    async def wait(self, seconds: float) -> None:
        """Time passes, and what is due is decided."""
        self.now += seconds
        await self.sync.changes.decide()

    async def do(self, *commands: Command, ids: tuple[str, ...] = ()) -> None:
        named = ids or tuple(f"c{self.position}-{i}" for i in range(len(commands)))
        await self.at.decide(*(envelope(c, i) for c, i in zip(commands, named, strict=True)))
        records = await self.at.log.read("events", 0, self.position, 1000)
        await self.sync.sync(records)
        self.position = records[-1].position

    async def say(self, *reports: Status) -> None:
        """Gateway sync reads what a node's xDS server reported."""
        await self.report(*reports)
        await self.read()

    async def report(self, *reports: Status) -> None:
        """What a node's xDS server puts on the status topic."""
        await self.at.log.append("status", [_status(report) for report in reports])

    async def read(self) -> None:
        """Gateway sync reads the status topic to its end."""
        followed = self.sync.changes.followed
        assert followed is not None
        await self.answers.take(await self.at.log.read("status", 0, followed, 1000))

    def routes(self, group: str) -> ConfigResource:
        entry = self.view.entry(EAST, ROUTES, f"{EAST}/routes/{group}")
        assert entry is not None
        return entry

    def deployments(self, group: str) -> list[tuple[str, int]]:
        entry = self.view.entry(EAST, ROUTES, f"{EAST}/routes/{group}")
        return [(ref.api, ref.revision) for ref in entry.deployments] if entry else []


def _status(report: Status) -> Envelope:
    return Envelope(
        id=uuid7(),
        type=report.type(),
        source="/xds",
        subject="s",
        time=report.at,
        partitionkey="acme",
        data=report.data(),
    )


@pytest.fixture
async def apart(tmp_path: Path) -> AsyncIterator[Apart]:
    async with desk(tmp_path) as at:
        config = await SqliteConfigTopic.open(tmp_path)
        made = Apart(at, config)
        await made.start()
        await made.do(*DEFAULT_RESOURCES)
        yield made
        await config.close()


def _delivery(
    fact: Fact, entry: ConfigResource, deployment: str, node: str, reason: str = ""
) -> DeliveryReported:
    ref = next(ref for ref in entry.deployments if ref.deployment == deployment)
    return DeliveryReported(
        organization="acme",
        name="east",
        at=timestamp(),
        deployment=deployment,
        node=node,
        fact=fact,
        version=entry.version,
        reason=reason,
        api=ref.api,
        revision=ref.revision,
        position=entry.position,
        connection="c",
    )


def acknowledged(entry: ConfigResource, deployment: str, node: str = "n") -> DeliveryReported:
    return _delivery("acknowledged", entry, deployment, node)


def refused(entry: ConfigResource, deployment: str, node: str = "n") -> DeliveryReported:
    return _delivery("refused", entry, deployment, node, "no")


def connection(node: str, *, connected: bool = True, id: str = "c", connections: int = 1) -> NodeReported:
    """A node that connects, or leaves."""
    return NodeReported(
        organization="acme",
        name="east",
        at=timestamp(),
        node=node,
        connected=connected,
        connection=id,
        connections=connections,
    )


def node(acknowledged: int, *pending: str) -> NodeReported:
    """A node that acknowledged what events up to a position caused, but for some deployments."""
    return NodeReported(
        organization="acme",
        name="east",
        at=timestamp(),
        node="n",
        connected=True,
        connection="c",
        acknowledged=acknowledged,
        exceptions=tuple(NodeException(deployment=d, state="pending") for d in pending),
    )


async def test_a_rejected_version_goes_back_to_the_acknowledged_one(apart: Apart):
    await apart.do(publish(), deploy(), ids=("p1", "d1"))
    good = apart.routes("orders")
    await apart.say(acknowledged(good, "d1"))
    await apart.do(publish(of=spec(url="http://127.0.0.1:9001")), deploy(), ids=("p2", "d2"))
    await apart.say(refused(apart.routes("orders"), "d2"))
    assert apart.routes("orders").version == good.version
    assert apart.deployments("orders") == [("orders", 1)]


async def test_answers_of_nodes_are_logged_once(apart: Apart):
    await apart.do(publish(), deploy(), ids=("p1", "d1"))
    rejection = refused(apart.routes("orders"), "d1")
    await apart.say(rejection)
    assert apart.received == [rejection]


async def test_an_acknowledgement_counts_that_comes_when_the_next_version_is_out(apart: Apart):
    await apart.do(publish(), deploy(), ids=("p1", "d1"))
    good = apart.routes("orders")
    await apart.do(publish(of=spec(url="http://127.0.0.1:9001")), deploy(), ids=("p2", "d2"))
    await apart.say(acknowledged(good, "d1"), refused(apart.routes("orders"), "d2"))
    assert apart.deployments("orders") == [("orders", 1)]


async def test_of_several_new_ones_each_is_tried_without_waiting_for_the_known_good_ones(apart: Apart):
    await apart.do(*(publish(n, spec(f"/shop/{n}")) for n in "abc"))
    await apart.do(deploy("a"), ids=("da",))
    await apart.say(acknowledged(apart.routes("shop"), "da"))
    await apart.do(deploy("b"), deploy("c"), ids=("db", "dc"))
    both = apart.routes("shop")
    # Every server that a proxy is connected to says so.
    await apart.say(*(refused(both, deployment) for deployment in ("db", "dc", "db", "dc")))
    assert apart.deployments("shop") == [("a", 1), ("b", 1)]
    await apart.say(refused(both, "db"), refused(apart.routes("shop"), "db"))
    assert apart.deployments("shop") == [("a", 1), ("c", 1)]
    await apart.say(acknowledged(apart.routes("shop"), "dc"))
    assert apart.deployments("shop") == [("a", 1), ("c", 1)]


async def test_after_a_restart_versions_in_force_count_as_acknowledged(apart: Apart):
    await apart.do(publish(), deploy(), ids=("p1", "d1"))
    await apart.say(acknowledged(apart.routes("orders"), "d1"))
    await apart.start()
    await apart.do(publish(of=spec(url="http://127.0.0.1:9001")), deploy(), ids=("p2", "d2"))
    await apart.say(refused(apart.routes("orders"), "d2"))
    assert apart.deployments("orders") == [("orders", 1)]


async def test_a_restart_changes_nothing(apart: Apart):
    await apart.do(publish(), deploy(), publish("carts", spec("/carts")), deploy("carts"))
    before = {e.key: e.version async for entries in apart.config.load() for e in entries}
    await apart.start()
    await apart.sync.sync(await apart.at.log.read("events", 0, 0, 1000))
    assert {e.key: e.version async for entries in apart.config.load() for e in entries} == before


async def test_an_event_that_cannot_be_read_is_parked_and_the_next_one_done(apart: Apart):
    await apart.at.decide(envelope(publish(), "p"), envelope(deploy(), "d"))
    *_, last = records = await apart.at.log.read("events", 0, apart.position, 1000)
    broken = Record("events", 0, last.position - 1, last.envelope, Fault("malformed", "it is not Avro"))
    await apart.sync.sync([records[0], broken, last])
    assert apart.deployments("orders") == [("orders", 1)]
    assert len(await apart.at.log.read("parked", 0, 0, 10)) == 1
