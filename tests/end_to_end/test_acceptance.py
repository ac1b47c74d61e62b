"""First steps of a user: apply a file, a folder, and the same again."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.calls import Calls
from tests.support.connection import Connection
from tests.support.hang_guard import HANG_SECONDS
from tests.support.running_signalbox import ROOT, RunningSignalbox, definition

PETSTORE = Path(__file__).parents[3] / "shared" / "data" / "wso2" / "petstore.v1.yaml"
TIMES = (
    r"(acknowledged|serving) +petstore-api-v1.0 revision 1: requested \d\d:\d\d:\d\d\.\d{3}, "
    r"decided \+[\d.]+ m?s, published \+[\d.]+ m?s, acknowledged \+[\d.]+ m?s"
)


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str


@dataclass
class Backend:
    """A service that answers everything and remembers what it was asked."""

    url: str
    asked: list[tuple[str, str, dict[str, str]]] = field(
        default_factory=list[tuple[str, str, dict[str, str]]]
    )


@pytest.fixture
def backend() -> Iterator[Backend]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            remembering.asked.append((self.command, self.path, headers))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        remembering = Backend(f"http://127.0.0.1:{server.server_address[1]}")
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        try:
            yield remembering
        finally:
            server.shutdown()
            serving.join()


def signalbox(harness: RunningSignalbox, folder: Path, *arguments: str) -> Ran:
    """The command line, run in `folder`."""
    environment = {
        **os.environ,
        "SIGNALBOX_URL": f"http://127.0.0.1:{harness.http}",
        "SIGNALBOX_TOKEN": harness.token,
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "signalbox", *arguments]
    ran = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=HANG_SECONDS
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


@pytest.fixture
def petstore(backend: Backend, tmp_path: Path) -> dict[str, Any]:
    """The definition, also at `petstore.v1.yaml` in `tmp_path`, with a service of ours behind it."""
    if not PETSTORE.is_file():
        if os.environ.get("SIGNALBOX_REQUIRE_REAL") == "1":
            pytest.fail(f"there is no {PETSTORE}")
        pytest.skip(f"there is no {PETSTORE}")
    text = PETSTORE.read_text(encoding="utf-8")
    theirs = yaml.safe_load(text)["spec"]["upstream"]["main"]["url"]
    mine = text.replace(theirs, f"{backend.url}/v2")
    (tmp_path / "petstore.v1.yaml").write_text(mine, encoding="utf-8")
    return yaml.safe_load(mine)


def test_a_file_is_deployed_with_its_facts_and_every_route_answers(
    running: RunningSignalbox, calls: Calls, petstore: dict[str, Any], backend: Backend, tmp_path: Path
) -> None:
    first = signalbox(running, tmp_path, "apply", "-f", "petstore.v1.yaml", "--deploy")

    assert first.code == 0, first
    created, facts = first.out.splitlines()
    assert re.fullmatch(r"created +API petstore-api-v1.0 revision 1  petstore.v1.yaml", created)
    assert re.match(TIMES, facts), facts
    assert re.search(r"^1 created; 1 (acknowledged|serving) \(\d+\.\d s\)$", first.err, re.MULTILINE)

    spec = petstore["spec"]
    assert len(spec["operations"]) == 6
    gateway = Connection(running.gateway)
    for operation in spec["operations"]:
        path = operation["path"].replace("{petId}", "7")
        status, headers, _ = gateway.ask(operation["method"], f"{spec['context']}{path}")
        assert (status, operation) == (200, operation)
        assert headers["x-signalbox-revision"] == "petstore-api-v1.0@1"
        assert headers["x-server-version"] == "v1.1"
        method, target, received = backend.asked[-1]
        assert (method, target) == (operation["method"], f"/v2{path}")
        assert received["x-client-version"] == "1.2.3"
    assert len(backend.asked) == 6
    assert gateway.ask("GET", f"{spec['context']}/nothing")[0] == 404
    assert gateway.ask("PATCH", f"{spec['context']}/pet")[0] == 405
    gateway.close()

    end = calls.end()
    again = signalbox(running, tmp_path, "apply", "-f", "petstore.v1.yaml", "--deploy")
    assert again.code == 0, again
    assert again.out.startswith("unchanged  API petstore-api-v1.0")
    assert calls.end() == end, "nothing is written to the event log"

    deployments = signalbox(running, tmp_path, "get", "deployments").out
    assert re.search(r"petstore-api-v1\.0 +1 .*serving", deployments), deployments
    assert "published" in signalbox(running, tmp_path, "history", "api", "petstore-api-v1.0").out


BROKEN = "apiVersion: signalbox.io/v1\nkind: API\nmetadata:\n  name: broken\nspec: [\n"
WRONG = """apiVersion: signalbox.io/v1
kind: API
metadata:
  name: wrong
spec:
  version: v1
  context: no-slash
  upstream:
    url: http://127.0.0.1:9
  operation:
    - method: GET
      path: /a
  operations:
    - method: FETCH
      path: /a
"""


def test_the_good_files_of_a_folder_apply_and_the_bad_are_listed(
    running: RunningSignalbox, calls: Calls, upstream: str, tmp_path: Path
) -> None:
    folder = tmp_path / "apis"
    (folder / "more").mkdir(parents=True)
    good = ("folder-a", "folder-b", "folder-c")
    (folder / "a.yaml").write_text(definition("folder-a", upstream))
    (folder / "more" / "bc.yaml").write_text(
        f"{definition('folder-b', upstream)}---\n{definition('folder-c', upstream)}"
    )
    (folder / "broken.yaml").write_text(BROKEN)
    (folder / "wrong.yaml").write_text(WRONG)

    first = signalbox(running, tmp_path, "apply", "-f", "apis", "--deploy")

    assert first.code == 1, first
    for name in good:
        assert re.search(rf"^created +API {name} revision 1 ", first.out, re.MULTILINE)
        running.answered(f"/{name}/items", f"{name}@1")
    found = re.findall(r"^(\S+?):(\d+):(\d+): error: .+?(?: \((/\S+)\))?$", first.err, re.MULTILINE)
    places = {(file, int(line), pointer) for file, line, _, pointer in found}
    assert ("apis/wrong.yaml", 7, "/spec/context") in places, first.err
    assert ("apis/wrong.yaml", 10, "/spec/operation") in places, first.err
    assert ("apis/wrong.yaml", 14, "/spec/operations/0/method") in places, first.err
    assert any(file == "apis/broken.yaml" and line >= 5 for file, line, _ in places), first.err
    assert all(int(column) >= 1 for _, _, column, _ in found)
    assert re.search(r"3 created.* 2 invalid|2 invalid, 3 created", first.err), first.err
    for name in ("wrong", "broken"):
        assert calls.ask("GET", f"/apis/{name}").status == 404, "nothing is written"

    end = calls.end()
    again = signalbox(running, tmp_path, "apply", "-f", "apis", "--deploy")
    assert again.code == 1, again
    assert len(re.findall(r"^unchanged ", again.out, re.MULTILINE)) == 3
    assert calls.end() == end, "the same again changes nothing"
