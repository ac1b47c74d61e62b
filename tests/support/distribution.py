"""Marks tests that need real servers, and orders the files for the processes of pytest-xdist."""

from pathlib import Path

import pytest

REAL = {"envoy", "kafka_files", "postgres_made"}
"""Fixtures that every test of Envoy, Kafka and PostgreSQL depends on."""

LONGEST = ("chaos", "real")
"""Files with such tests come first, so that no process ends long after the others."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "real: needs Envoy, Kafka, PostgreSQL, a package index or another language's toolchain"
    )
    config.addinivalue_line("markers", "chaos: kills or damages at random moments, many rounds")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Golden files are written by one process: a later test reads them all."""
    if config.getoption("--update"):
        config.option.numprocesses = None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests first. Each file is for one process: its tests share servers."""
    for item in items:
        if isinstance(item, pytest.Function) and REAL & set(item.fixturenames):
            item.add_marker("real")
    first: dict[Path, int] = {}
    for item in items:
        first[item.path] = min(first.get(item.path, len(LONGEST)), _order(item))
    items.sort(key=lambda item: first[item.path])


def _order(item: pytest.Item) -> int:
    orders = (order for order, marker in enumerate(LONGEST) if item.get_closest_marker(marker))
    return next(orders, len(LONGEST))
