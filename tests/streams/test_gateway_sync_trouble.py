"""What gateway sync cannot read, compile or put: one deployment is refused with the reason, others go on."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateways.config_resource import ConfigResource
from schemas.aggregates.deployment import StopDeployment
from schemas.envelope import Envelope
from streams.config_topic import ConfigWriter
from streams.log import LogUnavailable, MessageTooLarge, Record
from tests.commands.shop import ORG, deploy, publish, spec
from tests.streams.test_gateway_sync import DEFAULT_RESOURCES, EAST, Harness, harness
from xds.types import ROUTES


def record(at: Harness, type: str, subject: str, data: dict[str, Any] | None = None) -> Record:
    envelope = Envelope(
        id="e", type=type, source="/newer", subject=subject, time="", partitionkey=ORG, data=data or {}
    )
    return Record("events", 0, at.position + 1, envelope)


async def parked(at: Harness) -> list[tuple[str, str]]:
    records = await at.at.log.read("parked", 0, 0, 100)
    return [(r.envelope.data["rule"], r.envelope.data["reason"]) for r in records]


def refusing(at: Harness, monkeypatch: pytest.MonkeyPatch, subject: str) -> None:
    """The log cannot be read about a subject."""
    read_subject = at.at.log.read_subject

    async def fails(topic: Any, about: str, **options: Any) -> list[Record]:
        if about == subject:
            raise LogUnavailable("disk gone")
        return await read_subject(topic, about, **options)

    monkeypatch.setattr(at.at.log, "read_subject", fails)


def without(at: Harness, monkeypatch: pytest.MonkeyPatch, subject: str) -> None:
    """The log holds nothing about a subject."""
    read_subject = at.at.log.read_subject

    async def reads(topic: Any, about: str, **options: Any) -> list[Record]:
        return [] if about == subject else await read_subject(topic, about, **options)

    monkeypatch.setattr(at.at.log, "read_subject", reads)


async def test_a_gateway_that_could_not_be_read_once_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with harness(tmp_path) as at:
        await at.do(*DEFAULT_RESOURCES, publish())
        position = at.position
    async with harness(tmp_path) as again:
        again.position = position
        with monkeypatch.context() as broken:
            refusing(again, broken, EAST)
            with pytest.raises(LogUnavailable):
                await again.do(deploy(), ids=("d1",))
        await again.sync.sync(await again.at.log.read("events", 0, position, 10))
        assert again.facts() == [("d1", "published")]
        assert again.deployments("orders") == [("orders", 1)]


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        (EAST, "the gateway east is not in the event log"),
        ("organizations/acme/apis/orders", "revision 1 of the API orders is not in the event log"),
    ],
)
async def test_a_deployment_of_a_revision_missing_in_the_log_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subject: str, reason: str
):
    async with harness(tmp_path) as at:
        await at.do(*DEFAULT_RESOURCES, publish())
        position = at.position
    async with harness(tmp_path) as again:
        again.position = position
        with monkeypatch.context() as lost:
            without(again, lost, subject)
            await again.do(deploy(), ids=("d1",))
        assert [(r.deployment, r.fact, r.reason) for r in again.reports] == [("d1", "refused", reason)]
        assert (again.reports[0].api, again.reports[0].revision) == ("orders", 1)
        await again.do(publish(of=spec(url="http://127.0.0.1:9001")), deploy(), ids=("p2", "d2"))
        assert again.facts() == [("d2", "published")]


async def test_an_api_whose_revision_is_lost_keeps_serving_beside_changes_that_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with harness(tmp_path) as at:
        await at.do(
            *DEFAULT_RESOURCES,
            *(publish(n, spec(f"/shop/{n}")) for n in "ab"),
            deploy("a"),
            ids=(*"1234", *"56d"),
        )
        position = at.position
    async with harness(tmp_path) as again:
        again.position = position
        without(again, monkeypatch, "organizations/acme/apis/a")
        await again.do(deploy("b"), ids=("db",))
        assert again.deployments("shop") == [("a", 1)]
        assert [(r.deployment, r.fact) for r in again.reports] == [("db", "refused")]
        assert "revision 1 of the API a is not in the event log" in again.reports[0].reason


async def test_a_stopped_deployment_is_removed_even_when_its_start_is_not_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with harness(tmp_path) as at:
        await at.do(*DEFAULT_RESOURCES, publish(), deploy(), ids=(*"abcd", "p", "d1"))
        position = at.position
    async with harness(tmp_path) as again:
        again.position = position
        without(again, monkeypatch, "organizations/acme/deployments/d1")
        await again.do(StopDeployment(organization=ORG, name="d1"))
        assert again.deployments("orders") == []


async def test_a_refusal_is_on_the_log_before_the_event_counts_as_handled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with harness(tmp_path) as at:
        await at.do(*DEFAULT_RESOURCES, publish())
        position = at.sync.position
        with monkeypatch.context() as lost:
            without(at, lost, "organizations/acme/apis/orders")
            lost.setattr(at.sync.compiler.reading, "_specs", {})

            async def full() -> None:
                assert at.facts() == [("d1", "refused")]
                raise LogUnavailable("disk full")

            lost.setattr(at.sync.changes, "reported", full)
            with pytest.raises(LogUnavailable):
                await at.do(deploy(), ids=("d1",))
        assert at.sync.position == position


class Small:
    """A config topic that takes route configurations of so many APIs."""

    def __init__(self, topic: ConfigWriter, most: int) -> None:
        self._topic = topic
        self._most = most

    async def put(self, entries: Sequence[ConfigResource]) -> None:
        for entry in entries:
            self.require_size(entry)
        await self._topic.put(entries)

    def require_size(self, entry: ConfigResource) -> None:
        if entry.type == ROUTES and len(entry.deployments) > self._most:
            raise MessageTooLarge(f"It has {len(entry.deployments)} bytes, the topic takes {self._most}.")


def small(at: Harness, most: int) -> None:
    topic = Small(at.sync.changes.config, most)
    at.sync.changes.config = topic
    at.sync.compiler.require_size = topic.require_size


async def test_a_deployment_that_makes_a_unit_too_large_is_refused_and_all_others_go_on(tmp_path: Path):
    async with harness(tmp_path) as at:
        await at.do(*DEFAULT_RESOURCES, *(publish(n, spec(f"/shop/{n}")) for n in "abcd"), publish())
        small(at, 2)
        await at.do(deploy("a"), ids=("da",))
        await at.do(deploy("b"), deploy("c"), deploy(), ids=("db", "dc", "do"))
        assert at.deployments("shop") == [("a", 1), ("b", 1)]
        assert at.deployments("orders") == [("orders", 1)]
        assert set(at.facts()) == {("db", "published"), ("dc", "refused"), ("do", "published")}
        reason = next(r.reason for r in at.reports if r.deployment == "dc")
        assert reason == "the configuration would be too large: It has 3 bytes, the topic takes 2."
        await at.do(StopDeployment(organization=ORG, name="da"), deploy("d"), ids=("s", "dd"))
        assert at.deployments("shop") == [("b", 1), ("d", 1)]


async def test_a_revision_that_makes_a_unit_too_large_leaves_the_one_before_in_force(tmp_path: Path):
    async with harness(tmp_path) as at:
        await at.do(
            *DEFAULT_RESOURCES, *(publish(n, spec(f"/shop/{n}")) for n in "ab"), publish("c", spec("/other"))
        )
        small(at, 2)
        await at.do(deploy("a"), deploy("b"), deploy("c"))
        await at.do(publish("c", spec("/shop/c")), deploy("c"), ids=("p", "dc"))
        assert at.facts() == [("dc", "refused")]
        assert (at.deployments("shop"), at.deployments("other")) == ([("a", 1), ("b", 1)], [("c", 1)])


async def test_a_family_of_a_newer_version_that_concerns_no_gateway_is_passed_over(tmp_path: Path):
    async with harness(tmp_path) as at:
        await at.do(*DEFAULT_RESOURCES, publish(), deploy())
        newer = record(at, "io.signalbox.plan.published.v1", "organizations/acme/plans/gold")
        await at.sync.sync([newer])
        assert at.sync.position == newer.position
        assert await parked(at) == []


@pytest.mark.parametrize(
    ("type", "data", "rule"),
    [
        ("io.signalbox.gateway.relocated.v1", {}, "unknown-schema"),
        ("io.signalbox.deployment.paused.v1", {}, "unknown-schema"),
        (
            "io.signalbox.gateway.changed.v1",
            {"organization": ORG, "name": "east", "kind": "new"},
            "malformed",
        ),
        ("io.signalbox.deployment.started.v0", {}, "malformed"),
    ],
)
async def test_an_event_about_a_gateway_that_cannot_be_read_is_parked_and_later_ones_are_done(
    tmp_path: Path, type: str, data: dict[str, Any], rule: str
):
    async with harness(tmp_path) as at:
        await at.do(*DEFAULT_RESOURCES, publish())
        await at.sync.sync([record(at, type, EAST, data)])
        assert [found for found, _ in await parked(at)] == [rule]
        await at.do(deploy(), ids=("d1",))
        assert at.facts() == [("d1", "published")]


async def test_an_event_that_is_too_large_to_be_parked_is_parked_without_its_body(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with harness(tmp_path) as at:
        await at.do(*DEFAULT_RESOURCES)
        append = at.at.log.append

        async def small(topic: Any, envelopes: Sequence[Envelope]) -> list[int]:
            if any(envelope.data["value"] for envelope in envelopes):
                raise MessageTooLarge("too large")
            return await append(topic, envelopes)

        monkeypatch.setattr(at.at.log, "append", small)
        newer = record(at, "io.signalbox.gateway.relocated.v1", EAST, {"to": "x" * 100})
        await at.sync.sync([newer])
        (kept,) = await at.at.log.read("parked", 0, 0, 10)
        assert (kept.envelope.data["rule"], kept.envelope.data["value"]) == ("unknown-schema", "")
        assert kept.envelope.data["size"] > 100
        assert at.sync.position == newer.position


async def test_an_unreadable_event_of_a_gateway_leaves_its_last_readable_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with harness(tmp_path) as at:
        await at.do(*DEFAULT_RESOURCES, publish())
        position = at.position
    async with harness(tmp_path) as again:
        again.position = position
        read_subject = again.at.log.read_subject

        async def reads(topic: Any, about: str, **options: Any) -> list[Record]:
            found = await read_subject(topic, about, **options)
            newer = [
                replace(r, envelope=replace(r.envelope, type="io.signalbox.gateway.v.v1")) for r in found
            ]
            return [*found, *newer]

        monkeypatch.setattr(again.at.log, "read_subject", reads)
        await again.do(deploy(), ids=("d1",))
        assert again.facts() == [("d1", "published")]
