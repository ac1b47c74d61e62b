"""Marks tests that need real servers, and distributes the files over the processes of pytest-xdist."""

from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

REAL = {"envoy", "kafka_files", "postgres_made"}
"""Fixtures that every test of Envoy, Kafka and PostgreSQL depends on."""

TESTS = Path(__file__).parents[1]

TOGETHER = {
    "tests/end_to_end/test_kafka_bad_luck.py": "roles_on_kafka",
    "tests/end_to_end/test_kafka_rejected.py": "roles_on_kafka",
}
"""Files for the same process, by the fixture that they share: it takes long to make."""

LONGEST = (
    "end_to_end/test_kafka_bad_luck",
    "signalbox/test_damage",
    "end_to_end/test_kafka_rejected",
    "end_to_end/test_crashes",
    "api/test_fuzz",
    "streams/faust/test_host",
    "end_to_end/test_restarts",
    "projections/test_gateway_laws",
    "end_to_end/test_surroundings",
    "client/test_client",
    "end_to_end/test_roles",
    "signalbox/devservers/test_dev_postgres",
    "streams/test_projection_outages",
    "end_to_end/test_moving",
    "signalbox/devservers/test_dev_kafka",
    "streams/faust/test_publishers",
    "projections/test_laws",
    "streams/test_projection",
    "examples/test_publishing",
    "streams/test_kafka_wire",
    "xds/translate/test_split",
    "xds/test_laws",
    "api/test_openapi_lint",
    "client/test_wheel",
    "definitions/test_laws",
    "end_to_end/test_split_units",
    "projections/test_deliveries",
    "client/test_kafka",
    "end_to_end/test_live_path",
    "streams/test_projection_together",
    "streams/test_kafka_config",
    "signalbox/roles/test_runner",
    "extending/test_examples",
    "end_to_end/test_other_log",
    "streams/test_projection_crashes",
    "releases/test_topics",
    "streams/test_kafka_log",
    "end_to_end/test_publishing",
    "xds/translate/test_any_api",
    "xds/test_split_laws",
    "end_to_end/test_readme",
    "signalbox/test_connection_bounds",
)
"""Files whose tests take more than 15 seconds, those that take longest first: they are begun in this order,
before the others, so that no process ends long after the rest. `pytest --durations=0` measures."""


class _Scheduling(LoadFileScheduling):
    """Each file is for one process, as its tests share servers; the files of TOGETHER are like one."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return TOGETHER.get(file, file)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "real: needs Envoy, Kafka, PostgreSQL, a package index or another language's toolchain"
    )
    config.addinivalue_line(
        "markers", "chaos: kills or damages at random moments, many rounds, or shares servers with such tests"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Golden files are written by one process: a later test reads them all."""
    if config.getoption("--update"):
        config.option.numprocesses = None


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling:
    return _Scheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and REAL & set(item.fixturenames):
            item.add_marker("real")
    order = {TESTS / f"{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))
