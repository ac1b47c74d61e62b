"""doctor compares what entries of the configuration name with what is there."""

from pathlib import Path

import pytest

from signalbox.cli.doctor.configuration import configuration
from tests.streams.test_gateway_sync_incomplete import delete, deployed
from xds.types import CLUSTER, ROUTES


def found(directory: Path) -> list[tuple[str, str]]:
    return [(check.verdict, check.found) for check in configuration(directory)]


async def test_a_configuration_in_which_everything_is_there_is_ok(tmp_path: Path) -> None:
    await deployed(tmp_path)
    assert found(tmp_path) == [("ok", "all config resources of the gateways exist")]


@pytest.mark.parametrize(
    ("what", "by", "name"),
    [(ROUTES, "scopes/users", "routes/users"), (CLUSTER, "routes/orders", "upstreams/127.0.0.1-9000")],
)
async def test_an_entry_that_is_named_and_missing_is_wrong(
    tmp_path: Path, what: str, by: str, name: str
) -> None:
    await deployed(tmp_path)
    delete(tmp_path, f"type = '{what}'" + (" AND name LIKE '%/users'" if what == ROUTES else ""))
    ((verdict, message), *_) = found(tmp_path)
    assert verdict == "wrong"
    gateway = "organizations/acme/gateways/east"
    assert message.startswith(f"{gateway}: {gateway}/{by} names {gateway}/{name}")
    assert message.endswith(", which is missing")


def test_a_directory_without_configuration_has_nothing_to_compare(tmp_path: Path) -> None:
    assert found(tmp_path) == []
