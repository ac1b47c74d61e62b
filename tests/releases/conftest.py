"""The kept data of releases, unpacked."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.running_signalbox import upstream as serving_upstream

RELEASES = sorted((Path(__file__).parent / "testdata").iterdir())


@pytest.fixture(scope="session")
def upstream() -> Iterator[str]:
    """The URL of a service that answers `ok` to everything."""
    with serving_upstream() as url:
        yield url


@pytest.fixture(scope="module", params=RELEASES, ids=lambda path: path.name)
def release(request: pytest.FixtureRequest) -> Path:
    """The directory with the kept data of one release."""
    return request.param


def unpack(file: Path, directory: Path) -> None:
    directory.mkdir(parents=True)
    with tarfile.open(file) as packed:
        packed.extractall(directory, filter="data")


def recorded(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())
