"""Tables and statements are made once, whichever threads ask: two of one name cannot be used together."""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from projections import operations
from projections.deliveries import model
from projections.derived import liveness, rollouts, windows
from projections.queries import ReadModels
from projections.resources import tables
from schemas.catalog import GATEWAY
from tests.projections.conftest import Happen
from tests.projections.events import gateway
from tests.support.hang_guard import HANG_SECONDS

THREADS = 8
ROUNDS = 30
MAKERS: dict[str, Callable[[str], object]] = {
    "resources": tables.tables,
    "deliveries": model.tables,
    "operations": operations.tables,
    "liveness": liveness.table,
    "rollouts": rollouts.table,
    "lags": windows.lag_table,
    "changes": windows.change_table,
}


@pytest.fixture
def threads_alternate() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("threads_alternate")
@pytest.mark.parametrize("name", MAKERS)
def test_threads_that_ask_at_once_are_given_the_same_tables(name: str) -> None:
    make = MAKERS[name]
    with ThreadPoolExecutor(THREADS) as threads:
        for prefix in (f"{name}{number}" for number in range(ROUNDS)):
            together = Barrier(THREADS)

            def ask(prefix: str = prefix, together: Barrier = together) -> object:
                together.wait(HANG_SECONDS)
                return make(prefix)

            asked = [threads.submit(ask) for _ in range(THREADS)]
            assert len({id(each.result()) for each in asked}) == 1


async def test_queries_outlive_the_tables_they_were_made_with(happen: Happen, ask: ReadModels) -> None:
    happen(gateway("local"))
    assert await ask.get(GATEWAY, "acme", "local") is not None

    for number in range(100):
        tables.tables(f"another{number}")

    assert await ask.get(GATEWAY, "acme", "local") is not None
    assert [row.name for row in (await ask.list(GATEWAY, "acme", limit=10)).rows] == ["local"]
