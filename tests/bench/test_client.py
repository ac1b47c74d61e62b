"""The client outside of Signalbox that measures a change."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

CLIENT = Path(__file__).parents[2] / "bench" / "clients" / "change.py"


class Answering(BaseHTTPRequestHandler):
    """The command to `/deployments` is accepted, others are refused; the third request to the gateway is
    answered by the new revision."""

    protocol_version = "HTTP/1.1"
    polls = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._answer(202 if self.path == "/deployments" else 409)

    def do_GET(self) -> None:
        Answering.polls += 1
        self._answer(200, f"orders@{1 + Answering.polls // 3}")

    def _answer(self, status: int, revision: str = "") -> None:
        self.send_response(status)
        self.send_header("X-Signalbox-Revision", revision)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is written."""


@contextmanager
def server() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as serving:
        thread = Thread(target=serving.serve_forever)
        thread.start()
        yield serving.server_address[1]
        serving.shutdown()
        thread.join()


def measured(path: str) -> "subprocess.CompletedProcess[str]":
    change = {
        "commands": [["POST", path, {"authorization": "Bearer none"}, "{}"]],
        "path": "/orders/items",
        "host": "localhost",
        "expected": "orders@2",
    }
    with server() as port:
        return subprocess.run(
            [sys.executable, "-I", str(CLIENT), str(port), str(port)],
            input=json.dumps(change) + "\n",
            capture_output=True,
            text=True,
            check=False,
        )


def test_a_change_is_measured_until_the_new_revision_answers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Answering, "polls", 0)
    accepted, answered = json.loads(measured("/deployments").stdout)
    assert 0 < accepted < answered
    assert Answering.polls == 3


def test_a_refused_command_ends_the_client():
    ended = measured("/other")
    assert ended.returncode == 1
    assert "409 b'ok'" in ended.stderr
