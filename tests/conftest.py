import gc
from functools import cache
from pathlib import Path

import betterproto2
import pytest

from tests.support.real_envoy import real_envoy
from xds import plain_messages

TYPE_HINTS = "_type_hints"

pytest_plugins = [
    "tests.support.distribution",
    "tests.support.hang_guard",
    "tests.support.real_kafka",
    "tests.support.real_postgres",
    "tests.projections.stores",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="write golden files again, and delete orphans")


def pytest_configure(config: pytest.Config) -> None:
    # Before a test imports messages of envoy-data-plane: they are the product's form of them in all tests.
    plain_messages.use()
    # The library computes them again for each message that is made a dict: two thirds of the time of it.
    of_class = vars(betterproto2.Message)[TYPE_HINTS].__func__
    setattr(betterproto2.Message, TYPE_HINTS, classmethod(cache(of_class)))
    # Each message class of envoy-data-plane says this when it is first made by its own constructor.
    config.addinivalue_line(
        "filterwarnings", "ignore:Using `@model_validator` with mode='after':DeprecationWarning"
    )
    # SQLAlchemy says this when a test reads the tables of SQLite from the database.
    config.addinivalue_line(
        "filterwarnings", "ignore:Skipped unsupported reflection of expression-based index"
    )


def pytest_collection_finish() -> None:
    # Modules and tests stay: to examine them again and again takes a tenth of the time of all tests.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.fixture(scope="session")
def envoy() -> Path:
    """The real Envoy."""
    return real_envoy()
