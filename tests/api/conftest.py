from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.house import House, house


@pytest.fixture
async def signalbox(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made
