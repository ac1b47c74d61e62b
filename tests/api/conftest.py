from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.running_api import RunningApi, running_api


@pytest.fixture
async def signalbox(tmp_path: Path) -> AsyncIterator[RunningApi]:
    async with running_api(tmp_path) as made:
        yield made
