"""A data directory of an earlier release opens, answers as it did then, and takes new changes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.sqlite.check import check
from tests.releases.conftest import recorded, unpack
from tests.releases.content import answers, parked
from tests.support.calls import specification
from tests.support.running_signalbox import House


@pytest.fixture
def house(release: Path, tmp_path: Path) -> Iterator[House]:
    """A Signalbox on the kept directory, not yet up."""
    house = House(tmp_path / "data")
    unpack(release / "data-directory.tar.xz", house.data)
    yield house
    house.raze()


def test_a_kept_directory_is_sound(house: House) -> None:
    assert check(house.data) == []


def test_a_kept_directory_answers_as_recorded_and_serves_a_new_change(
    house: House, release: Path, envoy: Path, upstream: str
) -> None:
    before = recorded(release / "embedded.json")

    house.up("--no-envoy")

    assert answers(house, before["at"]) == before["answers"]
    assert parked(house) == before["parked"]
    assert house.down() == 0

    house.up()
    calls = house.calls()
    revision = calls.publish("orders", specification("/orders", upstream, display_name="Changed"))
    calls.deploy("orders")
    calls.close()

    house.answered("/orders/items", f"orders@{revision}")
    assert revision == 3
    assert house.down() == 0
    assert check(house.data) == []
