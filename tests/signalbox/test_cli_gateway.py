"""`gateway bootstrap`."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.signalbox.conftest import Run
from tests.signalbox.server_stand_in import Said, StandIn
from tests.xds.translate.proxy import validate

EDGE = "GET /organizations/default/gateways/edge"


@pytest.fixture
def token_file(outside: Path, stand_in: StandIn) -> str:
    """The token of a gateway that exists."""
    stand_in.answers[EDGE] = Said({"name": "edge", "kind": "envoy"})
    (outside / "edge.token").write_text("sbg_hush\n")
    return "edge.token"


def _sent(document: dict[str, Any]) -> list[dict[str, str]]:
    return document["dynamic_resources"]["ads_config"]["grpc_services"][0]["initial_metadata"]


def test_it_writes_what_an_envoy_of_the_gateway_starts_with(
    run: Run, token_file: str, tmp_path: Path
) -> None:
    ran = run(
        "gateway",
        "bootstrap",
        "edge",
        "--token-file",
        token_file,
        "--node",
        "edge-1",
        "--xds",
        "xds.test:1",
        "--xds",
        "other.test:2",
    )

    document = yaml.safe_load(ran.out)
    assert ran.code == 0
    assert document["node"] == {"id": "edge-1", "cluster": "organizations/default/gateways/edge"}
    assert _sent(document) == [{"key": "authorization", "value": "Bearer sbg_hush"}]
    assert (
        document["layered_runtime"]["layers"][0]["static_layer"]["re2.max_program_size.error_level"] == 50_000
    )
    (servers,) = document["static_resources"]["clusters"][0]["load_assignment"]["endpoints"]
    hosts = [e["endpoint"]["address"]["socket_address"]["address"] for e in servers["lb_endpoints"]]
    assert hosts == ["xds.test", "other.test"]
    assert document["overload_manager"]["actions"]
    assert document["admin"]["address"]["pipe"]["mode"] == 0o600
    assert validate(document, tmp_path) == ""


def test_its_file_is_for_the_owner_only(run: Run, token_file: str, outside: Path) -> None:
    ran = run("gateway", "bootstrap", "edge", "--token-file", token_file, "--out", "envoy.yaml")

    assert (ran.code, ran.out) == (0, "")
    assert "sbg_hush" not in ran.err
    assert (outside / "envoy.yaml").stat().st_mode & 0o777 == 0o600
    document = yaml.safe_load((outside / "envoy.yaml").read_text())
    assert _sent(document)[0]["value"] == "Bearer sbg_hush"


def test_a_gateway_that_does_not_exist_has_none(run: Run, outside: Path, token_file: str) -> None:
    ran = run("gateway", "bootstrap", "nowhere", "--token-file", token_file, "--out", "envoy.yaml")

    assert ran.code == 1
    assert "`signalbox get gateways` lists those there are" in ran.err
    assert not (outside / "envoy.yaml").exists()


@pytest.mark.parametrize("content", ["", "two words", "{}\n{}"])
def test_a_file_that_holds_no_token_is_said(run: Run, token_file: str, outside: Path, content: str) -> None:
    (outside / token_file).write_text(content)

    ran = run("gateway", "bootstrap", "edge", "--token-file", token_file)

    assert (ran.code, ran.out) == (1, "")
    assert "does not hold a token alone" in ran.err
