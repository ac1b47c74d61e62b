"""A real Signalbox with a real Envoy: one that tests share, and new ones to be mistreated."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.calls import Calls
from tests.support.running_signalbox import House
from tests.support.running_signalbox import upstream as serving_upstream


@pytest.fixture(scope="session")
def upstream() -> Iterator[str]:
    """The URL of a service that answers `ok` to everything."""
    with serving_upstream() as url:
        yield url


@pytest.fixture(scope="session")
def running(envoy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A Signalbox with Envoy that stays up: for tests that leave nothing behind but APIs of their own."""
    house = House(tmp_path_factory.mktemp("running") / "data")
    try:
        house.up()
        yield house
    finally:
        house.raze()


@pytest.fixture
def calls(running: House) -> Iterator[Calls]:
    """A caller of the Signalbox that stays up."""
    calls = running.calls()
    yield calls
    calls.close()


@pytest.fixture
def house(envoy: Path, tmp_path: Path) -> Iterator[House]:
    """A Signalbox of the test's own, not yet up."""
    house = House(tmp_path / "data")
    yield house
    house.raze()
