"""The command line as a whole: help, usage, connections, and the verbs that need no resources."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from signalbox.cli.failure import Failure
from signalbox.cli.http.connection import connection
from signalbox.cli.moments import ago, between
from signalbox.cli.root import VERBS
from signalbox.data_directory.listen_addresses import write_listen_addresses
from signalbox.settings import Address
from tests.signalbox.answers import ORG, api, golden, page
from tests.signalbox.conftest import Run
from tests.signalbox.server_stand_in import Scripted, StandIn, problem
from tests.support.free_ports import free_port

ROOT = Path(__file__).parents[2]


def test_help_lists_every_verb(bare: Run) -> None:
    ran = bare("--help")
    assert ran.code == 0
    for name, (_, summary) in VERBS.items():
        assert f"  {name} " in ran.out
        assert summary in ran.out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(bare: Run, verb: str) -> None:
    ran = bare(verb, "--help")
    assert ran.code == 0
    assert ran.out.startswith(f"Usage: signalbox {verb} ")
    assert len(ran.out.splitlines()) > 5


@pytest.mark.parametrize("arguments", [["--help"], ["version"], ["apply", "--help"]])
def test_short_commands_import_nothing_heavy(arguments: list[str]) -> None:
    heavy = {"pydantic", "rich", "httpx", "fastapi", "sqlalchemy", "grpc", "schemas.catalog", "yaml"}
    script = f"""
import sys
from signalbox.cli import main
code = main({arguments!r})
print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr)
sys.exit(code)
"""
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stderr == "[]\n"


def test_no_arguments_show_the_help_and_are_wrong_usage(bare: Run) -> None:
    ran = bare()
    assert ran.code == 3
    assert "Usage: signalbox" in ran.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["aply"], "there is no command 'aply': did you mean 'apply'?"),
        (["zzz"], "there is no command 'zzz': see 'signalbox --help'"),
        (["get"], "Missing argument 'KIND'."),
        (["get", "apsi"], "there is no kind 'apsi'; did you mean 'api'?"),
        (
            ["get", "x"],
            "there is no kind 'x'; there are organizations, projects, environments, gateways, apis",
        ),
        (["get", "apis", "--limit", "0"], "Invalid value for '--limit'"),
        (["get", "apis", "-o", "xml"], "Invalid value for '-o'"),
        (["up", "--engine", "redis"], "Invalid value for '--engine'"),
    ],
)
def test_wrong_usage_exits_3_and_says_what_is_meant(bare: Run, arguments: list[str], message: str) -> None:
    ran = bare(*arguments)
    assert ran.code == 3
    assert message in ran.err
    assert ran.out == ""


def test_version(bare: Run) -> None:
    ran = bare("version")
    assert ran.code == 0
    assert ran.out.startswith("signalbox ")


def test_a_server_that_is_not_there(bare: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("SIGNALBOX_URL", f"http://127.0.0.1:{port}")
    ran = bare("get", "apis")
    assert ran.code == 1
    assert ran.err == golden(f"""
        error: no answer from http://127.0.0.1:{port} (connection refused)
        hint: is `signalbox up` running? If it listens elsewhere, set SIGNALBOX_URL
    """)


def test_a_server_that_is_something_else(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/apis"] = Scripted(b"<html>", headers={"content-type": "text/html"})
    ran = run("get", "apis")
    assert ran.code == 1
    assert ran.err == golden("""
        error: the server's answer is not JSON (text/html)
        hint: is SIGNALBOX_URL the address of a Signalbox?
    """)


def test_a_token_the_server_does_not_take(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/apis"] = problem(401, "unauthorized", "The token is not known.")
    ran = run("get", "apis")
    assert ran.code == 1
    assert ran.err == (
        "error: The token is not known.\n"
        "hint: set SIGNALBOX_TOKEN, choose a --profile, or run this where `signalbox up` runs "
        "(it keeps the token in .signalbox/admin.token; SIGNALBOX_DATA names its data directory)\n"
    )


def test_no_token_at_all(run: Run, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIGNALBOX_TOKEN")
    stand_in.answers[f"GET {ORG}/apis"] = problem(401, "unauthorized", "No.")
    assert run("get", "apis").err.startswith("error: the server requires a token, and there is none\n")
    assert "authorization" not in stand_in.asked[0].headers


def test_every_complaint_is_printed_with_its_place(run: Run, stand_in: StandIn) -> None:
    errors = [
        {"pointer": "/api", "detail": "is missing"},
        {"parameter": "limit", "detail": "is not a number"},
    ]
    stand_in.answers[f"GET {ORG}/apis"] = problem(422, "invalid", "The body is not valid.", errors=errors)
    assert run("get", "apis").err == golden("""
        error: The body is not valid.
          /api: is missing
          limit: is not a number
    """)


def test_settings_come_from_flag_environment_profile_and_default(
    outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (connection().url, connection().organization, connection().token) == (
        "http://127.0.0.1:8080",
        "default",
        "",
    )
    config = outside / "config" / "signalbox" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(
        'current = "prod"\n[profiles.prod]\nurl = "https://prod/"\ntoken = "p"\norg = "acme"\n'
        '[profiles.test]\nurl = "https://test"\n'
    )
    found = connection()
    assert (found.url, found.organization, found.token) == ("https://prod", "acme", "p")
    assert connection(profile="test").url == "https://test"
    monkeypatch.setenv("SIGNALBOX_URL", "http://env")
    monkeypatch.setenv("SIGNALBOX_ORG", "of-env")
    monkeypatch.setenv("SIGNALBOX_TOKEN", "t")
    found = connection()
    assert (found.url, found.organization, found.token) == ("http://env", "of-env", "t")
    assert connection(url="http://flag").url == "http://flag"
    with pytest.raises(Failure, match="there is no profile 'none'"):
        connection(profile="none")


def test_the_local_token_is_only_ever_sent_to_this_machine(outside: Path) -> None:
    (outside / ".signalbox").mkdir()
    (outside / ".signalbox" / "admin.token").write_text("local-token\n")
    assert connection().token == "local-token"
    assert connection(url="https://elsewhere.example.com").token == ""
    assert "local-token" not in repr(connection())


@pytest.mark.parametrize(
    ("variables", "file"),
    [
        ({"SIGNALBOX_DATA": "elsewhere"}, "elsewhere/admin.token"),
        ({"SIGNALBOX_DATA": "elsewhere", "SIGNALBOX_SECRETS": "shared"}, "shared/admin.token"),
    ],
)
def test_the_local_token_is_read_where_the_server_keeps_it(
    outside: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], file: str
) -> None:
    for name, token in ((".signalbox/admin.token", "another-token"), (file, "the-token")):
        (outside / name).parent.mkdir()
        (outside / name).write_text(f"{token}\n")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert connection().token == "the-token"


def test_an_invalid_address_is_wrong_usage(bare: Run) -> None:
    ran = bare("get", "apis", "--url", "localhost:8080")
    assert ran.code == 3
    assert "is not an HTTP address" in ran.err


def test_the_organization_is_asked_for(run: Run, stand_in: StandIn) -> None:
    stand_in.answers["GET /organizations/acme/apis"] = page(api("orders"))
    assert run("get", "apis", "--org", "acme").code == 0


def test_rebuild_names_each_read_model(run: Run, stand_in: StandIn) -> None:
    numbers: dict[str, Any] = {"events": 12345, "seconds": 0.31}
    stand_in.answers["POST /readmodels/resources/rebuild"] = Scripted(numbers)
    for name in ("operations", "deliveries", "windows", "rollouts", "liveness"):
        stand_in.answers[f"POST /readmodels/{name}/rebuild"] = Scripted({})
    ran = run("rebuild")
    assert (ran.code, ran.err) == (0, "")
    assert "resources: rebuilt (12,345 events, 0.3 s)\n" in ran.out
    assert run("rebuild", "operations").out == "operations: rebuilt\n"
    assert run("rebuild", "unknown").code == 1


@pytest.mark.parametrize("directory", [".signalbox", "data"])
def test_without_an_address_it_asks_the_server_of_the_data_directory(
    bare: Run, stand_in: StandIn, outside: Path, monkeypatch: pytest.MonkeyPatch, directory: str
) -> None:
    stand_in.answers[f"GET {ORG}/apis"] = page(api("orders"))
    (outside / directory).mkdir()
    (outside / directory / "admin.token").write_text("its-token\n")
    listening = Address("0.0.0.0", stand_in.port)
    write_listen_addresses(outside / directory, {"http": listening})
    if directory != ".signalbox":
        monkeypatch.setenv("SIGNALBOX_DATA", directory)

    ran = bare("get", "apis")

    assert (ran.code, ran.err) == (0, "")
    assert [asked.headers["authorization"] for asked in stand_in.asked] == ["Bearer its-token"]


@pytest.mark.parametrize("how", ["option", "variable", "profile", "ended"])
def test_the_server_of_the_data_directory_is_asked_only_without_another_address(
    outside: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    directory, other = outside / ".signalbox", "http://127.0.0.1:9999"
    directory.mkdir()
    write_listen_addresses(directory, {"http": Address("127.0.0.1", 18080)})
    assert connection() == replace(connection(), url="http://127.0.0.1:18080", configured=False)
    match how:
        case "option":
            assert connection(url=other).url == other
        case "variable":
            monkeypatch.setenv("SIGNALBOX_URL", other)
            assert connection().url == other
        case "profile":
            (outside / "config.toml").write_text(f'[profiles.p]\nurl = "{other}"\n')
            monkeypatch.setenv("SIGNALBOX_CONFIG", str(outside / "config.toml"))
            assert connection(profile="p").url == other
        case _:
            noted = json.loads((directory / "listening.json").read_text())
            (directory / "listening.json").write_text(json.dumps({**noted, "started": "before"}))
            assert connection().url == "http://127.0.0.1:8080"


@pytest.mark.parametrize(
    ("passed", "message"),
    [(0.4, "just now"), (3.9, "3 s ago"), (61, "1 min ago"), (7300, "2 h ago"), (200_000, "2 d ago")],
)
def test_relative_times(passed: float, message: str) -> None:
    assert ago("1970-01-01T00:00:00.000000Z", passed) == message


@pytest.mark.parametrize(
    ("at", "message"), [("00.004217", "+4.2 ms"), ("00.250000", "+250 ms"), ("03.240000", "+3.2 s")]
)
def test_differences(at: str, message: str) -> None:
    assert between("2026-01-01T00:00:00.000000Z", f"2026-01-01T00:00:{at}Z") == message


@pytest.mark.parametrize("option", ["--http", "--xds", "--gateway"])
@pytest.mark.parametrize("given", ["127.0.0.1:0", "127.0.0.1:65536", "nonsense"])
def test_up_takes_ports_that_can_be_had(bare: Run, option: str, given: str) -> None:
    ran = bare("up", option, given)
    assert ran.code == 3
    assert ran.err == (
        f"error: {option} takes HOST:PORT, such as 127.0.0.1:8080, with a port from 1 to 65535; "
        f"{given!r} is not.\n"
    )
