"""A program with only aiokafka and CloudEvents publishes a command, and its API answers."""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streams.kafka.settings import KafkaSettings
from tests.end_to_end.test_roles import OnSharedServers
from tests.support.hang_guard import HANG_SECONDS
from tests.support.running_signalbox import ROOT

EXAMPLE = ROOT / "examples" / "publish_a_command.py"
KNOWN = {"aiokafka", "cloudevents"}
"""Packages the example may use, beside Python's own."""


@pytest.fixture
def harness(
    envoy: Path, kafka_settings_of: Callable[[int], KafkaSettings], postgres_url: str, tmp_path: Path
) -> Iterator[OnSharedServers]:
    made = OnSharedServers(tmp_path / "data", settings=kafka_settings_of(2), url=postgres_url)
    try:
        yield made
    finally:
        made.raze()


def python(harness: OnSharedServers, *arguments: str, **environment: str) -> str:
    ran = subprocess.run(
        [sys.executable, *arguments],
        env={**harness.environment, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_the_example_is_independent_of_signalbox() -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(EXAMPLE.read_text())):
        if isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert imported - sys.stdlib_module_names == KNOWN


def test_its_api_answers_through_envoy(harness: OnSharedServers, upstream: str) -> None:
    harness.up()
    create = ("-m", "signalbox", "token", "create", "--organization", "default", "--subject", "shop")
    token = python(harness, *create, SIGNALBOX_SECRETS=str(harness.data / "secrets"))
    output = python(harness, str(EXAMPLE), upstream, SIGNALBOX_COMMAND_TOKEN=token)
    assert [line.split()[1:] for line in output.splitlines()] == [["accepted"], ["accepted"]]
    harness.answered("/orders/items", "orders@1")
