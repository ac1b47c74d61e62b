"""Gateway sync that puts to a real Kafka: a group that no message can hold."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from schemas.aggregates.api import ApiSpec
from schemas.aggregates.deployment import StopDeployment
from schemas.message import Command
from schemas.status import DeliveryReported
from signalbox.roles.gateway_sync import TRANSLATORS
from streams.gateway_sync.config_view import ConfigView
from streams.gateway_sync.sync import GatewaySync
from streams.kafka.config import KafkaConfigTopic
from streams.kafka.settings import KafkaSettings
from streams.kafka.topics import ensure_topics
from tests.commands.shop import ORG, deploy, publish, spec
from tests.streams.decider_cases import desk, envelope
from tests.streams.test_gateway_sync import DEFAULT_RESOURCES, EAST
from xds.types import ROUTES

LIMIT = 8 * 20_000


def large(context: str) -> ApiSpec:
    """More than half of what a message of the config topic holds."""
    return spec(context, operations=[{"method": "GET", "path": f"/{'x' * 40}{n}"} for n in range(250)])


async def test_a_deployment_too_large_for_any_message_is_refused_and_the_rest_is_put(
    kafka_settings_of: Callable[[int], KafkaSettings], tmp_path: Path
):
    settings = replace(kafka_settings_of(1), max_message=LIMIT // 8)
    await ensure_topics(settings)
    config = await KafkaConfigTopic.open(settings)
    await config.claim(0)
    view = ConfigView(config)
    reports: list[DeliveryReported] = []
    async with desk(tmp_path) as at:
        sync = GatewaySync(
            log=at.log,
            config=view,
            translators=TRANSLATORS,
            current=view.entry,
            report=reports.extend,
            probe_secret=lambda gateway: "secret",
            compiled=lambda entries, seconds: None,
        )

        async def do(*commands: Command, ids: tuple[str, ...]) -> None:
            reports.clear()
            await at.decide(*(envelope(c, i) for c, i in zip(commands, ids, strict=True)))
            await sync.sync(await at.log.read("events", 0, sync.position, 1000))

        async def on_the_topic() -> dict[str, list[str]]:
            routes = [e async for entries in config.load() for e in entries if e.type == ROUTES]
            return {
                e.name.removeprefix(f"{EAST}/routes/"): [c.deployment for c in e.deployments] for e in routes
            }

        await do(*DEFAULT_RESOURCES, publish("a", large("/shop/a")), deploy("a"), ids=(*"1234", "pa", "da"))
        await do(
            *(publish("b", large("/shop/b")), publish("c", spec("/shop/c")), publish()),
            *(deploy("b"), deploy("c"), deploy()),
            ids=("pb", "pc", "po", "db", "dc", "do"),
        )
        assert await on_the_topic() == {"shop": ["da", "dc"], "orders": ["do"]}
        (refusal,) = [report for report in reports if report.fact == "refused"]
        assert (refusal.deployment, refusal.api, refusal.revision) == ("db", "b", 1)
        assert f"which takes {LIMIT:,}" in refusal.reason

        await do(StopDeployment(organization=ORG, name="da"), ids=("s",))
        await do(publish("b", large("/shop/b/c")), deploy("b"), ids=("pb2", "db2"))
        assert await on_the_topic() == {"shop": ["db2", "dc"], "orders": ["do"]}
    await config.close()
