"""A running Envoy in front of upstreams that say what they were asked."""

import json
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from gateways.config_resource import ConfigResource
from tests.support.hang_guard import HANG_SECONDS
from tests.xds.translate.proxy import envoy_binary, static_bootstrap


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def path(self) -> str:
        """The path the upstream saw."""
        return self.json["path"]


@dataclass(frozen=True)
class Gateway:
    """`log` is where it writes its access log, `admin` the port of its admin interface."""

    port: int
    admin: int
    log: Path

    def __call__(self, method: str, path: str, host: str = "gateway.test", **headers: str) -> Answer:
        """Asks as it is written: the path is not touched. `x_a="1"` is the header `x-a`."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=HANG_SECONDS)
        try:
            connection.putrequest(method, path, skip_host=True)
            connection.putheader("host", host)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            response = connection.getresponse()
            got = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, got, response.read())
        finally:
            connection.close()


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # One write per answer: two small ones wait 40 ms for each other (Nagle, delayed acknowledgement).
    wbufsize = -1
    name = ""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        message = {"upstream": self.name, "method": self.command, "path": self.path, "headers": headers}
        body = json.dumps(message).encode()
        status = int(self.headers.get("x-answer", 200))
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("x-from-upstream", "1")
        if claimed := self.headers.get("x-answer-header"):
            self.send_header(claimed, "forged")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = _answer

    def log_message(self, format: str, *args: Any) -> None:
        """Tests are quiet."""


@contextmanager
def echo(name: str) -> Iterator[int]:
    """An upstream on a free port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Echo", (_Echo,), {"name": name}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def envoy(entries: Iterable[ConfigResource], directory: Path) -> Iterator[Gateway]:
    """An Envoy that serves the entries."""
    file, admin = directory / "envoy.json", directory / "admin"
    file.write_text(json.dumps(static_bootstrap(entries)), encoding="utf-8")
    command = [
        envoy_binary(), "-c", str(file), "--admin-address-path", str(admin),
        "--concurrency", "1", "--disable-hot-restart", "-l", "info", "--file-flush-interval-msec", "20",
    ]  # fmt: skip
    with (directory / "access.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        message: list[str] = []
        for line in process.stderr:
            message.append(line)
            if "starting main dispatch loop" in line:
                break
        else:
            raise AssertionError("Envoy did not start:\n" + "".join(message[-20:]))
        drain = threading.Thread(target=process.stderr.read, daemon=True)
        drain.start()
        host, _, port = admin.read_text(encoding="utf-8").rpartition(":")
        connection = HTTPConnection(host, int(port), timeout=HANG_SECONDS)
        connection.request("GET", "/listeners?format=json")
        listeners = json.loads(connection.getresponse().read())
        connection.close()
        address = listeners["listener_statuses"][0]["local_address"]["socket_address"]
        yield Gateway(address["port_value"], int(port), directory / "access.log")
    finally:
        process.terminate()
        process.wait(timeout=HANG_SECONDS)
        process.stderr.close()
