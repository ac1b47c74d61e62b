"""What docs/extending.md promises of its examples holds of a real process that has them."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.envelope import Envelope
from signalbox.settings import kafka_environment
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import Append, Transaction
from tests.extending.page import ROOT, examples, extended_copy
from tests.streams.envelopes import chained
from tests.support.calls import Calls, Reply, specification, until
from tests.support.connection import Connection
from tests.support.free_ports import free_port
from tests.support.multi_process import RoleProcess
from tests.support.running_signalbox import RunningSignalbox
from tests.support.running_signalbox import upstream as serving_upstream

TEAM = {"display_name": "Checkout", "email": "checkout@example.com"}
BEFORE = "labelled-before"
"""An API that was published before the examples were there."""

MAKE = {"prefer": "wait=60", "if_none_match": "*"}


@dataclass
class Extended(RunningSignalbox):
    """A Signalbox that runs from the extended copy."""

    source: Path = field(default=ROOT)

    def begin(self, *options: str) -> None:
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.argv(), *options],
                stdout=log,
                stderr=log,
                env={**os.environ, "SIGNALBOX_LOGS": "json"},
                cwd=self.source,
            )

    def signalbox(self, *arguments: str, given: str = "") -> str:
        """The output of a command of the command line. Raises CalledProcessError."""
        environment = {
            **os.environ,
            "SIGNALBOX_URL": f"http://127.0.0.1:{self.http}",
            "SIGNALBOX_TOKEN": self.token,
        }
        return subprocess.run(
            [sys.executable, "-m", "signalbox", *arguments],
            cwd=self.source,
            env=environment,
            input=given,
            capture_output=True,
            check=True,
            text=True,
        ).stdout

    def document(self, path: str) -> Any:
        connection = self.connection()
        status, _, body = connection.ask("GET", path)
        connection.close()
        assert status == 200, body
        return orjson.loads(body)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return extended_copy(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def published(source: Path) -> list[str]:
    """The Avro schemas that publishing adds."""
    command = [sys.executable, "-m", "schemas.codecs.avro", "--write"]
    message = subprocess.run(command, cwd=source, check=True, stdout=subprocess.PIPE, text=True)
    return message.stdout.split()


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    with serving_upstream() as url:
        yield url


@pytest.fixture(scope="module")
def extended(envoy: Path, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Extended]:
    """Runs on data that a Signalbox without the examples began."""
    before = RunningSignalbox(tmp_path_factory.mktemp("extended") / "data")
    try:
        before.up("--no-envoy")
        calls = before.calls()
        assert calls.ask("GET", "/teams").status == 404
        labels = {"team": "fulfilment"}
        calls.publish(BEFORE, specification(f"/{BEFORE}", "http://127.0.0.1:9", labels=labels))
        calls.close()
    finally:
        before.raze()
    harness = Extended(before.data, before.http, before.xds, before.gateway, source=source)
    try:
        harness.up()
        yield harness
    finally:
        harness.raze()


@pytest.fixture
def calls(extended: Extended) -> Iterator[Calls]:
    calls = extended.calls()
    yield calls
    calls.close()


def made(calls: Calls, name: str) -> Reply:
    reply = calls.ask("PUT", f"/teams/{name}", TEAM, **MAKE)
    assert reply.status == 201, reply
    return reply


def test_an_aggregate_is_a_module_per_package_and_its_name_in_one_list_each() -> None:
    mine = [e for e in examples() if e.path.startswith(("schemas/", "commands/"))]
    assert [e.path for e in mine if e.new] == ["schemas/aggregates/team.py", "commands/team.py"]
    assert {e.path for e in mine if not e.new} == {"schemas/catalog.py", "commands/rules.py"}


def test_a_resource_is_made_read_changed_and_deleted(calls: Calls) -> None:
    reply = made(calls, "checkout")
    assert {k: reply.json[k] for k in ("name", *TEAM)} == {"name": "checkout", **TEAM}
    etag = reply.headers["etag"]
    read = calls.ask("GET", "/teams/checkout")
    assert (read.status, read.headers["etag"], read.json["email"]) == (200, etag, TEAM["email"])

    changed = {**TEAM, "display_name": "Checkout and basket"}
    assert calls.ask("PUT", "/teams/checkout", changed, prefer="wait=60").status == 428
    second = calls.ask("PUT", "/teams/checkout", changed, prefer="wait=60", if_match=etag)
    assert second.status == 200, second
    assert second.json["display_name"] == changed["display_name"]
    assert calls.ask("PUT", "/teams/checkout", TEAM, prefer="wait=60", if_match=etag).status == 412

    deleted = calls.ask("DELETE", "/teams/checkout", prefer="wait=60", if_match=second.headers["etag"])
    assert deleted.status == 200, deleted
    assert calls.ask("GET", "/teams/checkout").status == 404


def test_every_finding_is_reported(calls: Calls) -> None:
    reply = calls.ask("PUT", "/teams/bad", {"email": "nobody", "colour": "red"}, **MAKE)
    assert reply.status == 422, reply
    assert {e["pointer"] for e in reply.json["errors"]} == {"/email", "/colour"}


def test_a_resource_can_be_asked_for_as_it_was(calls: Calls) -> None:
    first = made(calls, "basket")
    position = first.headers["signalbox-position"].rpartition(":")[2]
    calls.ask("PUT", "/teams/basket", {**TEAM, "display_name": "Basket"}, prefer="wait=60", if_match="*")
    then = calls.ask("GET", f"/teams/basket?as_of={position}")
    assert then.json["display_name"] == TEAM["display_name"]
    assert calls.ask("GET", "/teams/basket").json["display_name"] == "Basket"
    listed = calls.ask("GET", f"/teams?as_of={position}").json["items"]
    assert [i["display_name"] for i in listed if i["name"] == "basket"] == [TEAM["display_name"]]


def test_the_command_line_supports_it(extended: Extended, calls: Calls) -> None:
    made(calls, "search")
    listed = extended.signalbox("get", "teams")
    assert "search" in listed
    assert TEAM["email"] in listed
    assert TEAM["email"] in extended.signalbox("describe", "team", "search")
    assert "defined" in extended.signalbox("history", "team", "search")


def test_a_file_of_its_kind_is_applied(extended: Extended, calls: Calls) -> None:
    file = (
        "apiVersion: signalbox.io/v1\nkind: Team\nmetadata:\n  name: payments\n"
        "spec:\n  displayName: Payments\n  email: payments@example.com\n"
    )
    extended.signalbox("apply", "-f", "-", given=file)
    assert calls.ask("GET", "/teams/payments").json["display_name"] == "Payments"


def test_a_read_model_joins_earlier_and_later_events(extended: Extended, calls: Calls, upstream: str) -> None:
    made(calls, "fulfilment")
    later = specification("/labelled-later", upstream, labels={"team": "fulfilment"})
    calls.publish("labelled-later", later)
    calls.publish("unlabelled", specification("/unlabelled", upstream))

    def owners() -> dict[str, str]:
        return {item["api"]: item["email"] for item in calls.ask("GET", "/owners").json["items"]}

    expected = {BEFORE: TEAM["email"], "labelled-later": TEAM["email"]}
    until(lambda: owners() == expected, "both APIs have an owner")
    first = calls.ask("GET", "/owners?limit=1").json
    assert [item["api"] for item in first["items"]] == [BEFORE]
    second = calls.ask("GET", f"/owners?limit=1&cursor={first['next_cursor']}").json
    assert [item["api"] for item in second["items"]] == ["labelled-later"]

    calls.publish("labelled-later", specification("/labelled-later", upstream))
    until(lambda: owners() == {BEFORE: TEAM["email"]}, "the label is gone")
    assert "owners" in extended.signalbox("rebuild", "owners")
    assert owners() == {BEFORE: TEAM["email"]}


def test_an_endpoint_is_one_module_and_its_name_in_one_list() -> None:
    mine = [e for e in examples() if e.path.startswith("api/")]
    assert [e.path for e in mine if e.new] == ["api/routers/contexts.py", "api/routers/owners.py"]
    assert {e.path for e in mine if not e.new} == {"api/routes.py"}


def test_an_endpoint_has_pages_earlier_states_and_checks_of_its_parameters(
    extended: Extended, calls: Calls, upstream: str
) -> None:
    calls.publish("moved", specification("/before", upstream))
    position = calls.end()
    calls.publish("moved", specification("/after", upstream))

    def context_of_moved(query: str) -> str:
        items = calls.ask("GET", f"/contexts?{query}").json["items"]
        return next(item["context"] for item in items if item["api"] == "moved")

    assert context_of_moved(f"min_position={calls.end()}") == "/after"
    assert context_of_moved(f"as_of={position}") == "/before"

    listed, query = list[dict[str, str]](), "limit=1"
    while query:
        page = calls.ask("GET", f"/contexts?{query}").json
        assert len(page["items"]) == 1
        listed += page["items"]
        query = page["next_cursor"] and f"limit=1&cursor={page['next_cursor']}"
    assert [item["api"] for item in listed] == sorted(api["name"] for api in calls.all("apis"))

    refused = calls.ask("GET", "/contexts?color=red")
    assert (refused.status, refused.json["errors"][0]["parameter"]) == (400, "color")
    assert calls.ask("GET", "/contexts?limit=0").status == 400
    assert calls.ask("GET", "/contexts", authorization="Bearer wrong").status == 401
    operation = extended.document("/openapi.json")["paths"]["/api/v1/organizations/{org}/contexts"]
    assert {p["name"] for p in operation["get"]["parameters"]} == {
        "org", "cursor", "as_of", "min_position", "limit",
    }  # fmt: skip
    assert {"200", "400", "401", "403", "406", "500", "503"} == operation["get"]["responses"].keys()


def test_the_documents_describe_it(extended: Extended) -> None:
    openapi = extended.document("/openapi.json")
    path = openapi["paths"]["/api/v1/organizations/{org}/teams/{name}"]
    assert {"get", "put", "delete"} <= path.keys()
    assert "email" in openapi["components"]["schemas"]["Team"]["properties"]
    asyncapi = extended.document("/asyncapi.json")
    messages = asyncapi["components"]["messages"]
    assert {t for t in messages if t.startswith("io.signalbox.team.")} == {
        "io.signalbox.team.command.define.v1",
        "io.signalbox.team.command.delete.v1",
        "io.signalbox.team.defined.v1",
        "io.signalbox.team.deleted.v1",
    }
    example = messages["io.signalbox.team.defined.v1"]["examples"][0]["payload"]
    assert example["email"] == "checkout@example.com"


def test_its_schemas_are_published_and_no_other_changes(published: list[str]) -> None:
    assert sorted(published) == [
        "io.signalbox.team.command.define.v1.1.avsc",
        "io.signalbox.team.command.delete.v1.1.avsc",
        "io.signalbox.team.defined.v1.1.avsc",
        "io.signalbox.team.deleted.v1.1.avsc",
    ]


def test_it_is_there_after_a_restart(extended: Extended, calls: Calls) -> None:
    etag = made(calls, "durable").headers["etag"]
    calls.close()
    assert extended.down() == 0
    extended.up()
    again = extended.calls()
    same = again.ask("PUT", "/teams/durable", TEAM, prefer="wait=60", if_match=etag)
    assert (same.status, same.headers["etag"]) == (200, etag), "the rules remember it too"
    again.close()


def test_the_policy_is_in_effect(extended: Extended, calls: Calls, upstream: str) -> None:
    policies = [{"name": "cache-control", "params": {"seconds": 60}}]
    calls.publish("cached", specification("/cached", upstream, policies=policies))
    assert calls.settled(calls.deploy("cached"))["state"] == "serving"
    connection = Connection(extended.gateway)
    status, headers, _ = connection.ask("GET", "/cached/items")
    connection.close()
    assert (status, headers["cache-control"]) == (200, "max-age=60")


def test_a_policy_is_one_module_and_its_name_in_one_list() -> None:
    mine = [e for e in examples() if e.path.startswith("xds/")]
    assert [e.path for e in mine if e.new] == [
        "xds/translate/policies/cache_control.py",
        "xds/translate/policies/request_size.py",
    ]
    assert {e.path for e in mine if not e.new} == {"xds/translate/policies/__init__.py"}


def test_a_policy_with_a_filter_of_its_own_limits_the_requests_of_its_operations_alone(
    extended: Extended, calls: Calls, upstream: str
) -> None:
    policies = [{"name": "request-size", "params": {"maxBytes": 1000}}]
    operations = [
        {"method": "POST", "path": "/small", "policies": policies},
        {"method": "POST", "path": "/any"},
    ]
    calls.publish("limited", specification("/limited", upstream, operations=operations))
    assert calls.settled(calls.deploy("limited"))["state"] == "serving"

    def status(path: str, size: int) -> int:
        connection = Connection(extended.gateway)
        answer, _, _ = connection.ask("POST", f"/limited/{path}", b"x" * size)
        connection.close()
        return answer

    answers = {(path, size): status(path, size) for path in ("small", "any") for size in (1000, 1001)}
    assert answers == {("small", 1000): 200, ("small", 1001): 413, ("any", 1000): 200, ("any", 1001): 200}


def test_a_problem_of_a_policy_is_the_reason_of_the_rejection(calls: Calls, upstream: str) -> None:
    policies = [{"name": "cache-control", "params": {"seconds": -1}}]
    calls.publish("uncached", specification("/uncached", upstream, policies=policies))
    status = calls.settled(calls.deploy("uncached"))
    assert status["state"] == "refused"
    assert "seconds: must be a whole number" in status["refusals"][0]["reason"]


def exported(directory: Path) -> list[dict[str, Any]]:
    """The complete lines of the file of partition 0."""
    file = directory / "export" / "events-0.jsonl"
    content = file.read_bytes() if file.exists() else b""
    return [orjson.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]


def test_a_role_is_one_module_and_its_entry_in_the_registry() -> None:
    mine = [e for e in examples() if e.path.startswith("signalbox/")]
    assert [(e.path, e.new) for e in mine] == [
        ("signalbox/roles/export.py", True),
        ("signalbox/roles/__init__.py", False),
    ]


def test_a_role_runs_with_the_others_and_continues_after_a_restart(extended: Extended, calls: Calls) -> None:
    def all_exported() -> bool:
        events, last = calls.events_on(0)
        lines = exported(extended.data)
        return [line["event"] for line in lines] == events and lines[-1]["position"] == last

    made(calls, "export-before")
    until(all_exported, "all events are in the file")
    calls.close()
    assert extended.down() == 0
    file = extended.data / "export" / "events-0.jsonl"
    with file.open("ab") as output:
        output.write(b'{"position":')  # as a process leaves it that is killed while it writes
    extended.up()
    calls = extended.calls()
    made(calls, "export-after")
    until(all_exported, "each event is in the file once")
    calls.close()


async def test_a_role_runs_alone_on_kafka(
    source: Path, kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    log = await KafkaLog.open(kafka_settings, tmp_path / "log")
    await log.claim(0)
    events = chained(3)

    async def append(appended: Sequence[Envelope]) -> None:
        await log.commit(Transaction(appends=(Append("events", 0, appended),)))

    health = free_port()
    argv = (sys.executable, "-m", "signalbox", "run", "export")
    options = ("--data", str(tmp_path / "data"), "--health", f"127.0.0.1:{health}")
    role = RoleProcess("export", (*argv, *options), health, tmp_path / "export.log", source=source)
    environment = {**os.environ, **kafka_environment(kafka_settings), "SIGNALBOX_LOGS": "json"}

    def ids() -> list[str]:
        return [line["event"]["id"] for line in exported(tmp_path / "data")]

    try:
        await append(events[:2])
        role.begin(environment)
        await asyncio.to_thread(role.until_ready)
        await asyncio.to_thread(until, lambda: len(ids()) == 2, "the first events")
        assert role.end() == 0, role.log_file.read_text()[-3000:]
        await append(events[2:])
        role.begin(environment)
        await asyncio.to_thread(until, lambda: len(ids()) == 3, "the event since")
        assert ids() == [event.id for event in events]
    finally:
        role.end()
        await log.close()


ROUTE_LIST = "routes: listed\nat: /listed\nto: {upstream}\nallow:\n  - GET /items\n"


def test_a_form_of_definition_is_one_module_and_its_name_in_one_list() -> None:
    mine = [e for e in examples() if e.path.startswith("definitions/")]
    assert [e.path for e in mine if e.new] == ["definitions/route_list.py"]
    assert {e.path for e in mine if not e.new} == {"definitions/reading.py"}


def test_a_file_of_the_form_is_applied_and_served(extended: Extended, calls: Calls, upstream: str) -> None:
    extended.signalbox("apply", "-f", "-", given=ROUTE_LIST.format(upstream=upstream))
    assert calls.settled(calls.deploy("listed"))["state"] == "serving"
    connection = Connection(extended.gateway)
    statuses = [connection.ask(method, "/listed/items")[0] for method in ("GET", "POST")]
    connection.close()
    assert statuses == [200, 405]


def test_errors_in_a_file_of_the_form_name_their_places(extended: Extended) -> None:
    wrong = ROUTE_LIST.format(upstream="ftp://orders").replace("GET", "FETCH") + "colour: red\n"
    with pytest.raises(subprocess.CalledProcessError) as raised:
        extended.signalbox("apply", "-f", "-", given=wrong)
    for place in ("3:5: error: 'ftp://orders' must begin", "5:5: error", "6:1: error: 'colour' is not known"):
        assert place in raised.value.stderr
