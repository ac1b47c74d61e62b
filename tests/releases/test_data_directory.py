"""A data directory of an earlier release opens, answers as it did then, and takes new changes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.sqlite.checks.directory import check
from tests.releases.conftest import recorded, unpack
from tests.releases.content import answers, parked
from tests.support.calls import specification
from tests.support.running_signalbox import RunningSignalbox


@pytest.fixture
def harness(release: Path, tmp_path: Path) -> Iterator[RunningSignalbox]:
    """A Signalbox on the kept directory, not yet up."""
    harness = RunningSignalbox(tmp_path / "data")
    unpack(release / "data-directory.tar.xz", harness.data)
    yield harness
    harness.raze()


def test_a_kept_directory_is_sound(harness: RunningSignalbox) -> None:
    assert check(harness.data) == []


def test_a_kept_directory_answers_as_recorded_and_serves_a_new_change(
    harness: RunningSignalbox, release: Path, envoy: Path, upstream: str
) -> None:
    before = recorded(release / "embedded.json")

    harness.up("--no-envoy")

    assert answers(harness, before["at"]) == before["answers"]
    assert parked(harness) == before["parked"]
    assert harness.down() == 0

    harness.up()
    calls = harness.calls()
    revision = calls.publish("orders", specification("/orders", upstream, display_name="Changed"))
    calls.deploy("orders")
    calls.close()

    harness.answered("/orders/items", f"orders@{revision}")
    assert revision == 3
    assert harness.down() == 0
    assert check(harness.data) == []
