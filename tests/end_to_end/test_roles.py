"""Signalbox on a real Kafka, PostgreSQL and Envoy: every role a process of its own, and all in one."""

import asyncio
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from signalbox.devservers.kafka.probe import probe
from signalbox.roles import ROLES
from signalbox.settings import kafka_environment
from streams.kafka.inspection import describe
from streams.kafka.settings import KafkaSettings
from tests.support.calls import specification, until
from tests.support.multi_process import MultiProcessSignalbox
from tests.support.running_signalbox import RunningSignalbox


@dataclass
class OnSharedServers(MultiProcessSignalbox):
    """On the broker and the server that all tests share, under names of its own."""

    settings: KafkaSettings = field(default_factory=KafkaSettings)
    url: str = ""

    def serve(self) -> None:
        self.environment = {
            **os.environ,
            **kafka_environment(self.settings),
            "SIGNALBOX_POSTGRES": self.url,
            "SIGNALBOX_LOGS": "json",
        }


@pytest.fixture
def several(
    envoy: Path, kafka_settings_of: Callable[[int], KafkaSettings], postgres_url: str, tmp_path: Path
) -> Iterator[OnSharedServers]:
    harness = OnSharedServers(tmp_path / "data", settings=kafka_settings_of(2), url=postgres_url)
    try:
        yield harness
    finally:
        harness.raze()


def members(kafka: KafkaSettings) -> dict[str, int]:
    """How many processes are in each group of roles."""
    names = {kafka.group(name): name for name in ("decider", "gateway-sync")}
    return {names[g.name]: len(g.members) for g in asyncio.run(describe(kafka, list(names)))[1]}


def test_an_api_comes_alive_through_all_roles_and_each_stops_in_order(
    several: OnSharedServers, upstream: str
) -> None:
    several.up()
    calls = several.calls()
    calls.publish("orders", specification("/orders", upstream))
    deployment = calls.deploy("orders")
    several.answered("/orders/items", "orders@1")
    until(lambda: calls.status(deployment)["state"] == "serving", "the facts say that it serves")
    calls.close()

    assert members(several.settings) == {"decider": 1, "gateway-sync": 1}
    for role in reversed(tuple(ROLES)):
        process = several.processes[role]
        assert process.end() == 0, process.log_file.read_text()[-3000:]
    assert members(several.settings) == {"decider": 0, "gateway-sync": 0}


def not_private(directory: Path) -> list[str]:
    """What others may read, write or pass through, but for links and what ends meanwhile."""
    found: list[str] = []
    for path in (directory, *directory.rglob("*")):
        with suppress(FileNotFoundError):
            facts = path.lstat()
            # Of a directory that PostgreSQL's user may pass, the group's bits are those of that user.
            others = 0o007 if stat.S_ISDIR(facts.st_mode) else 0o077
            if not stat.S_ISLNK(facts.st_mode) and facts.st_mode & others:
                found.append(f"{path.relative_to(directory)} {stat.filemode(facts.st_mode)}")
    return sorted(found)


class UpOnKafka(RunningSignalbox):
    """As `make up ENGINE=kafka` starts it, but for the ports and the data directory."""

    def extra_environment(self) -> dict[str, str]:
        return {"SIGNALBOX_LOGS": ""}

    def argv(self) -> list[str]:
        return [*(word for word in super().argv() if word != "--no-sample"), "--engine", "kafka"]


def test_up_ends_with_a_curl_that_works_and_leaves_nothing_running(
    envoy: Path, kafka_files: Path, postgres_server: str, tmp_path: Path
) -> None:
    harness = UpOnKafka(tmp_path / "data")
    try:
        harness.up()
        until(lambda: "  curl " in harness.log_file.read_text(), "the last line")
        harness.answered("/hello/you", "hello@1")
        kafka = (harness.data / "kafka" / "address").read_text().strip()
        message = harness.log_file.read_text()
        assert f"  Kafka    {kafka}" in message, "publishers of commands get the address"
        assert f"  clients  . {harness.data}/kafka/environment" in message, "and how to connect"
        assert (harness.data / "kafka" / "password").read_text().strip() not in message
        assert "  database postgresql+psycopg://" in message
        assert not_private(harness.data) == []
        assert harness.down() == 0, harness.log()
        host, _, port = kafka.rpartition(":")
        assert probe(host, int(port)) == "away"
        assert harness.through("/hello/you")[0] == 0

        # What was decided is there at the next start, and the sample is not published twice.
        harness.up()
        harness.answered("/hello/you", "hello@1")
    finally:
        harness.raze()
