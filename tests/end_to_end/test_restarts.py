"""Envoy goes, or Signalbox goes: the traffic stays, and both find together again."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from signalbox.machine.processes import process
from tests.support.calls import specification, until
from tests.support.running_signalbox import RunningSignalbox

NAMES = ("one", "two", "three", "four")
UPDATES = r"^(cluster_manager|listener_manager|http)\..*(update_success|config_reload)$"
"""What Envoy counts whenever it takes in configuration."""


@pytest.fixture(scope="module")
def standing(
    envoy: Path, upstream: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningSignalbox, list[str]]]:
    harness = RunningSignalbox(tmp_path_factory.mktemp("restarts") / "data")
    try:
        harness.up()
        yield harness, deploy(harness, upstream, *NAMES)
    finally:
        harness.raze()


@pytest.fixture
def serving(standing: tuple[RunningSignalbox, list[str]]) -> RunningSignalbox:
    """Four APIs that answer."""
    harness, _ = standing
    if harness.process is None:
        harness.up()
    for name, revision in live(harness).items():
        harness.answered(f"/{name}/items", revision)
    return harness


def live(harness: RunningSignalbox) -> dict[str, str]:
    """What should answer, by API: its name and revision."""
    calls = harness.calls()
    items = calls.all("deployments")
    calls.close()
    return {i["api"]: f"{i['api']}@{i['revision']}" for i in items if i["state"] == "active"}


def all_answer(harness: RunningSignalbox, wanted: dict[str, str]) -> None:
    assert sorted(wanted) == sorted(NAMES)
    for name, revision in wanted.items():
        harness.answered(f"/{name}/items", revision)


def deploy(harness: RunningSignalbox, upstream: str, *names: str, **fields: str) -> list[str]:
    """Publishes a revision of each, deploys it and waits until it serves; the deployments."""
    calls = harness.calls()
    deployments: list[str] = []
    for name in names:
        calls.publish(name, specification(f"/{name}", upstream, **fields))
        deployments.append(calls.deploy(name))
    for deployment in deployments:
        assert calls.settled(deployment)["state"] == "serving"
    calls.close()
    return deployments


def statuses(harness: RunningSignalbox, *, but: str) -> dict[str, Any]:
    """What gateways reported on deployments, with first and last times; not on those of one API."""
    calls = harness.calls()
    items = calls.all("deployments")
    calls.close()
    return {item["name"]: item["status"] for item in items if item["api"] != but}


def serving_statuses(harness: RunningSignalbox, *, but: str) -> dict[str, Any]:
    """As `statuses`, once those in force are serving: requests are answered before the node is reported."""

    def found() -> dict[str, Any] | None:
        known = statuses(harness, but=but)
        return known if {status["state"] for status in known.values()} <= {"serving", "stopped"} else None

    return until(found, "all are serving")


@contextmanager
def asked_all_the_time(harness: RunningSignalbox) -> Iterator[list[int]]:
    """The statuses of requests to the gateway, asked one after the other on connections of their own."""
    seen: list[int] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            seen.append(harness.through(f"/{NAMES[len(seen) % len(NAMES)]}/items")[0])

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield seen
    finally:
        over.set()
        asking.join()


def test_envoy_is_killed_and_comes_back_with_every_api(serving: RunningSignalbox):
    wanted = live(serving)
    first = serving.envoy()
    os.kill(first, signal.SIGKILL)
    second = until(lambda: pid if (pid := serving.envoy()) not in (0, first) else None, "another Envoy")
    all_answer(serving, wanted)
    assert process(second) is not None


def test_a_change_while_envoy_is_away_arrives_when_it_is_back(serving: RunningSignalbox, upstream: str):
    before = live(serving)
    os.kill(serving.envoy(), signal.SIGKILL)
    deploy(serving, upstream, "one", display_name="Changed while Envoy was away")
    after = live(serving)
    assert {name for name in NAMES if before[name] != after[name]} == {"one"}
    all_answer(serving, after)


def test_signalbox_is_stopped_and_takes_envoy_along_and_all_is_back_without_a_command(
    serving: RunningSignalbox,
):
    wanted, end = live(serving), serving.calls().end()
    envoy = serving.envoy()

    assert serving.down() == 0
    assert process(envoy) is None
    assert serving.through("/one/items")[0] == 0

    serving.up()
    all_answer(serving, wanted)
    assert serving.calls().end() == end, "a start decides nothing"


def test_signalbox_is_killed_and_envoy_serves_on_and_is_adopted_with_nothing_sent_again(
    serving: RunningSignalbox, upstream: str
):
    envoy = serving.envoy()
    wanted, before = live(serving), serving_statuses(serving, but="two")
    configured = serving.envoy_stats(UPDATES)
    assert any("cds" in name for name in configured)

    with asked_all_the_time(serving) as seen:
        serving.down(signal.SIGKILL)
        during = len(seen)
        until(lambda: len(seen) > during + 200, "200 more answers while Signalbox is gone")
        assert process(envoy) is not None
        serving.up()
        until(
            lambda: 1 in serving.envoy_stats("control_plane.connected_state$").values(),
            "Envoy is connected again",
        )
        assert serving.envoy() == envoy
        assert live(serving) == wanted
        deploy(serving, upstream, "two", display_name="Changed after the restart")
        assert serving_statuses(serving, but="two") == before, "nothing else is reported again"
        wanted = live(serving)
        all_answer(serving, wanted)

    assert set(seen) == {200}
    assert serving.envoy() == envoy
    counted = {n: v for n, v in serving.envoy_stats(UPDATES).items() if v != configured.get(n)}
    assert counted, "Envoy counts what it is sent"
    assert all(name.rpartition("/")[2].startswith("two.") for name in counted), (
        f"Envoy was sent nothing but what it lacked: {counted}"
    )


def test_a_command_accepted_right_before_a_kill_takes_effect_after_the_restart(
    serving: RunningSignalbox, upstream: str
):
    calls = serving.calls()
    revision = calls.publish("four", specification("/four", upstream, display_name="Changed at last"))
    reply = calls.ask("POST", "/deployments", {"api": "four", "gateway": "local"})
    serving.down(signal.SIGKILL)
    assert reply.status == 202
    assert serving.through("/one/items")[0] == 200

    serving.up()

    serving.answered("/four/items", f"four@{revision}")
    operation = serving.calls().send("GET", reply.headers["location"]).json
    assert operation["state"] == "accepted"
    assert serving.calls().settled(operation["subject"].rpartition("/")[2])["state"] == "serving"


def test_a_frozen_envoy_makes_it_unready_and_the_next_start_replaces_it(serving: RunningSignalbox):
    wanted, envoy = live(serving), serving.envoy()
    os.kill(envoy, signal.SIGSTOP)
    assert "does not answer" in until(lambda: unready(serving), "not ready")

    serving.down(signal.SIGKILL)
    serving.up()

    assert process(envoy) is None
    all_answer(serving, wanted)


def unready(harness: RunningSignalbox) -> str | None:
    connection = harness.connection()
    status, _, body = connection.ask("GET", "/healthz/ready")
    connection.close()
    return None if status == 200 else body.decode()
