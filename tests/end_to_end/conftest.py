"""A real Signalbox with a real Envoy: one that tests share, and new ones to be mistreated."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.calls import Calls
from tests.support.multi_process import MultiProcessSignalbox, multi_process_signalbox
from tests.support.running_signalbox import RunningSignalbox
from tests.support.running_signalbox import upstream as serving_upstream


@pytest.fixture(scope="session")
def upstream() -> Iterator[str]:
    """The URL of a service that answers `ok` to everything."""
    with serving_upstream() as url:
        yield url


@pytest.fixture(scope="session")
def running(envoy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSignalbox]:
    """A Signalbox with Envoy that stays up: for tests that leave nothing behind but APIs of their own."""
    harness = RunningSignalbox(tmp_path_factory.mktemp("running") / "data")
    try:
        harness.up()
        yield harness
    finally:
        harness.raze()


@pytest.fixture
def calls(running: RunningSignalbox) -> Iterator[Calls]:
    """A caller of the Signalbox that stays up."""
    calls = running.calls()
    yield calls
    calls.close()


@pytest.fixture
def harness(envoy: Path, tmp_path: Path) -> Iterator[RunningSignalbox]:
    """A Signalbox of the test's own, not yet up."""
    harness = RunningSignalbox(tmp_path / "data")
    yield harness
    harness.raze()


@pytest.fixture(scope="session")
def roles_on_kafka(envoy: Path, kafka_files: Path, postgres_made: Path) -> Iterator[MultiProcessSignalbox]:
    """One process per role, on Kafka and PostgreSQL of its own, for the files of `distribution.TOGETHER`:
    each of their tests calls `up`, as some stay down after the one before."""
    with multi_process_signalbox(session_timeout_ms=3_000) as (harness, _):
        yield harness
