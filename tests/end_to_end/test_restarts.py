"""Envoy goes, or Signalbox goes: the traffic stays, and both find together again."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from signalbox.processes import process
from tests.support.calls import specification, until
from tests.support.running_signalbox import House

NAMES = ("one", "two", "three", "four")
UPDATES = r"^(cluster_manager|listener_manager|http)\..*(update_success|config_reload)$"
"""What Envoy counts whenever it takes in configuration."""


@pytest.fixture(scope="module")
def standing(
    envoy: Path, upstream: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[House, list[str]]]:
    house = House(tmp_path_factory.mktemp("restarts") / "data")
    try:
        house.up()
        yield house, deploy(house, upstream, *NAMES)
    finally:
        house.raze()


@pytest.fixture
def serving(standing: tuple[House, list[str]]) -> House:
    """Four APIs that answer."""
    house, _ = standing
    if house.process is None:
        house.up()
    for name, revision in live(house).items():
        house.answered(f"/{name}/items", revision)
    return house


def live(house: House) -> dict[str, str]:
    """What should answer, by API: its name and revision."""
    calls = house.calls()
    items = calls.all("deployments")
    calls.close()
    return {i["api"]: f"{i['api']}@{i['revision']}" for i in items if i["state"] == "active"}


def all_answer(house: House, wanted: dict[str, str]) -> None:
    assert sorted(wanted) == sorted(NAMES)
    for name, revision in wanted.items():
        house.answered(f"/{name}/items", revision)


def deploy(house: House, upstream: str, *names: str, **fields: str) -> list[str]:
    """Publishes a revision of each, deploys it and waits until it serves; the deployments."""
    calls = house.calls()
    deployments: list[str] = []
    for name in names:
        calls.publish(name, specification(f"/{name}", upstream, **fields))
        deployments.append(calls.deploy(name))
    for deployment in deployments:
        assert calls.settled(deployment)["state"] == "serving"
    calls.close()
    return deployments


def statuses(house: House, *, but: str) -> dict[str, object]:
    """What gateways reported on deployments, with first and last times; not on those of one API."""
    calls = house.calls()
    items = calls.all("deployments")
    calls.close()
    return {item["name"]: item["status"] for item in items if item["api"] != but}


@contextmanager
def asked_all_the_time(house: House) -> Iterator[list[int]]:
    """The statuses of requests to the gateway, asked one after the other on connections of their own."""
    seen: list[int] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            seen.append(house.through(f"/{NAMES[len(seen) % len(NAMES)]}/items")[0])

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield seen
    finally:
        over.set()
        asking.join()


def test_envoy_is_killed_and_comes_back_with_every_api(serving: House):
    wanted = live(serving)
    first = serving.envoy()
    os.kill(first, signal.SIGKILL)
    second = until(lambda: pid if (pid := serving.envoy()) not in (0, first) else None, "another Envoy")
    all_answer(serving, wanted)
    assert process(second) is not None


def test_a_change_while_envoy_is_away_arrives_when_it_is_back(serving: House, upstream: str):
    before = live(serving)
    os.kill(serving.envoy(), signal.SIGKILL)
    deploy(serving, upstream, "one", display_name="Changed while Envoy was away")
    after = live(serving)
    assert {name for name in NAMES if before[name] != after[name]} == {"one"}
    all_answer(serving, after)


def test_signalbox_is_stopped_and_takes_envoy_along_and_all_is_back_without_a_command(serving: House):
    wanted, end = live(serving), serving.calls().end()
    envoy = serving.envoy()

    assert serving.down() == 0
    assert process(envoy) is None
    assert serving.through("/one/items")[0] == 0

    serving.up()
    all_answer(serving, wanted)
    assert serving.calls().end() == end, "a start decides nothing"


def test_signalbox_is_killed_and_envoy_serves_on_and_is_adopted_with_nothing_sent_again(
    serving: House, upstream: str
):
    envoy = serving.envoy()
    wanted, before = live(serving), statuses(serving, but="two")
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
        assert statuses(serving, but="two") == before, "nothing else is reported anew"
        wanted = live(serving)
        all_answer(serving, wanted)

    assert set(seen) == {200}
    assert serving.envoy() == envoy
    counted = {n: v for n, v in serving.envoy_stats(UPDATES).items() if v != configured.get(n)}
    assert counted, "Envoy counts what it is sent"
    assert all(name.rpartition("/")[2].startswith("two.") for name in counted), (
        f"Envoy was sent nothing but what it lacked: {counted}"
    )


def test_what_was_accepted_right_before_a_kill_arrives_after_the_restart(serving: House, upstream: str):
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
