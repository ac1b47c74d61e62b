"""`gateway bootstrap`."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from signalbox.data_directory.listen_addresses import write_listen_addresses
from signalbox.settings import address
from tests.signalbox.answers import ORG
from tests.signalbox.conftest import Run
from tests.signalbox.server_stand_in import Scripted, StandIn
from tests.xds.translate.proxy import validate

EDGE = "GET /organizations/default/gateways/edge"


@pytest.fixture
def token_file(outside: Path, stand_in: StandIn) -> str:
    """The token of a gateway that exists."""
    stand_in.answers[EDGE] = Scripted({"name": "edge", "kind": "envoy"})
    (outside / "edge.token").write_text("sbg_hush\n")
    return "edge.token"


def _sent(document: dict[str, Any]) -> list[dict[str, str]]:
    return document["dynamic_resources"]["ads_config"]["grpc_services"][0]["initial_metadata"]


@pytest.mark.usefixtures("envoy")
def test_it_writes_a_bootstrap_file_that_an_envoy_starts_with(
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


def _tls(document: dict[str, Any]) -> dict[str, Any]:
    return document["static_resources"]["clusters"][0]["transport_socket"]["typed_config"]


def _validation(document: dict[str, Any]) -> dict[str, Any]:
    return _tls(document)["common_tls_context"]["validation_context"]


BOOTSTRAP = ("gateway", "bootstrap", "edge", "--token-file", "edge.token", "--xds", "xds.test:1")


@pytest.mark.usefixtures("token_file")
def test_with_a_ca_nodes_ask_the_xds_servers_for_their_names(run: Run) -> None:
    ran = run(*BOOTSTRAP, "--xds", "10.0.0.1:2", "--ca", "/etc/signalbox/ca.crt")

    document = yaml.safe_load(ran.out)
    assert (ran.code, ran.err) == (0, "")
    assert _validation(document) == {
        "trusted_ca": {"filename": "/etc/signalbox/ca.crt"},
        "match_typed_subject_alt_names": [
            {"san_type": "DNS", "matcher": {"exact": "xds.test"}},
            {"san_type": "IP_ADDRESS", "matcher": {"exact": "10.0.0.1"}},
        ],
    }
    assert _tls(document)["sni"] == "xds.test"


@pytest.mark.usefixtures("token_file")
def test_the_name_in_the_certificate_may_be_another_than_the_host(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNALBOX_XDS_CA", "ca.crt")
    ran = run(*BOOTSTRAP, "--server-name", "signalbox.test")

    document = yaml.safe_load(ran.out)
    (name,) = _validation(document)["match_typed_subject_alt_names"]
    assert (name["matcher"]["exact"], _tls(document)["sni"]) == ("signalbox.test", "signalbox.test")
    assert _validation(document)["trusted_ca"] == {"filename": "ca.crt"}


@pytest.mark.usefixtures("token_file")
def test_without_a_ca_it_says_that_the_token_travels_in_plaintext(run: Run) -> None:
    ran = run(*BOOTSTRAP, "--xds", "127.0.0.1:2")

    assert ran.code == 0
    assert "transport_socket" not in yaml.safe_load(ran.out)["static_resources"]["clusters"][0]
    assert "without --ca the nodes send their token to xds.test in plaintext" in ran.err


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (("--server-name", "xds.test"), "--server-name needs --ca"),
        (("--ca", ""), "--ca is empty"),
        (("--ca", "ca.crt", "--server-name", " "), "--server-name is empty"),
    ],
)
@pytest.mark.usefixtures("token_file")
def test_contradictory_trust_options_are_reported(run: Run, options: tuple[str, ...], fault: str) -> None:
    ran = run(*BOOTSTRAP, *options)

    assert (ran.code, ran.out) == (3, "")
    assert fault in ran.err


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


@pytest.mark.parametrize("content", ["", "two words", "{}\n{}", "null", "sbg_", "sbg_two words"])
def test_a_file_without_a_token_is_reported(run: Run, token_file: str, outside: Path, content: str) -> None:
    (outside / token_file).write_text(content)

    ran = run("gateway", "bootstrap", "edge", "--token-file", token_file)

    assert (ran.code, ran.out) == (1, "")
    assert "edge.token must contain only a gateway's token; a token begins with sbg_" in ran.err


@pytest.mark.parametrize("node", ["", "edge 1", "*", "é", "n" * 254])
def test_a_node_that_the_xds_server_would_refuse_is_refused(run: Run, token_file: str, node: str) -> None:
    ran = run("gateway", "bootstrap", "edge", "--token-file", token_file, "--node", node)

    assert (ran.code, ran.out) == (3, "")
    assert "cannot name a node: node.id" in ran.err
    assert "give another name with --node" in ran.err


def _admin(run: Run, token_file: str, node: str) -> str:
    ran = run("gateway", "bootstrap", "edge", "--token-file", token_file, "--node", node, "--xds", "x.test:1")
    return yaml.safe_load(ran.out)["admin"]["address"]["pipe"]["path"]


def test_each_node_of_a_machine_has_an_admin_interface_of_its_own(run: Run, token_file: str) -> None:
    long = "n" * 252
    paths = [
        _admin(run, token_file, node) for node in ("edge-1", "edge-2", "a/b", "a-b", long + "1", long + "2")
    ]

    assert paths[0] == "/tmp/signalbox-envoy.default.edge.edge-1.sock"
    assert len(set(paths)) == len(paths)
    assert all(len(path) <= 107 and path.count("/") == 2 for path in paths)


def _xds(document: dict[str, Any]) -> str:
    (servers,) = document["static_resources"]["clusters"][0]["load_assignment"]["endpoints"]
    (server,) = servers["lb_endpoints"]
    found = server["endpoint"]["address"]["socket_address"]
    return f"{found['address']}:{found['port_value']}"


def test_without_an_address_it_is_where_the_xds_of_the_server_listens(
    run: Run, token_file: str, outside: Path, stand_in: StandIn
) -> None:
    (outside / ".signalbox").mkdir()
    http = address(stand_in.url.removeprefix("http://"), "--http")
    write_listen_addresses(outside / ".signalbox", {"http": http, "xds": address("0.0.0.0:18123", "--xds")})

    ran = run("gateway", "bootstrap", "edge", "--token-file", token_file)

    assert (ran.code, ran.err) == (0, "")
    assert _xds(yaml.safe_load(ran.out)) == "127.0.0.1:18123"


def test_the_directory_of_another_server_says_nothing_and_the_default_is_named(
    run: Run, token_file: str, outside: Path
) -> None:
    (outside / ".signalbox").mkdir()
    places = {"http": address("127.0.0.1:1", "--http"), "xds": address("127.0.0.1:18123", "--xds")}
    write_listen_addresses(outside / ".signalbox", places)

    ran = run("gateway", "bootstrap", "edge", "--token-file", token_file)

    assert _xds(yaml.safe_load(ran.out)) == "127.0.0.1:18000"
    assert "fetches its configuration from 127.0.0.1:18000; if xDS listens elsewhere, give --xds" in ran.err


def _registered(stand_in: StandIn, *gateways: dict[str, Any]) -> None:
    made = {"source": "edge.yaml", "kind": "Gateway", "result": "created", "findings": []}
    stand_in.answers[f"POST {ORG}/apply"] = Scripted({"items": [{**made, **each} for each in gateways]})


def test_apply_writes_the_token_to_a_new_file_for_its_owner(
    run: Run, stand_in: StandIn, outside: Path
) -> None:
    (outside / "edge.yaml").write_text("kind: Gateway")
    _registered(stand_in, {"name": "edge", "token": "sbg_hush"}, {"name": "other", "token": "sbg_second"})

    ran = run("apply", "-f", "edge.yaml", "--token-file", "edge.token")

    assert ran.code == 0
    assert (outside / "edge.token").read_text() == "sbg_hush\n"
    assert (outside / "edge.token").stat().st_mode & 0o777 == 0o600
    assert "token      edge: in edge.token" in ran.out
    assert "sbg_hush" not in ran.out + ran.err
    assert "token      other: sbg_second" in ran.out


def test_apply_never_overwrites_a_token(run: Run, stand_in: StandIn, outside: Path) -> None:
    (outside / "edge.yaml").write_text("kind: Gateway")
    (outside / "edge.token").write_text("sbg_before\n")
    _registered(stand_in, {"name": "edge", "token": "sbg_hush"})

    ran = run("apply", "-f", "edge.yaml", "--token-file", "edge.token")

    assert (ran.code, stand_in.asked) == (3, [])
    assert "edge.token exists, and may hold a token; nothing was applied" in ran.err
    assert (outside / "edge.token").read_text() == "sbg_before\n"


def test_a_gateway_that_exists_leaves_no_file(run: Run, stand_in: StandIn, outside: Path) -> None:
    (outside / "edge.yaml").write_text("kind: Gateway")
    _registered(stand_in, {"name": "edge", "result": "unchanged"})

    ran = run("apply", "-f", "edge.yaml", "--token-file", "edge.token", "-o", "json")

    assert ran.code == 0
    assert (
        "no token was written to edge.token: a gateway's token is printed only when it is registered"
        in ran.err
    )
    assert not (outside / "edge.token").exists()
