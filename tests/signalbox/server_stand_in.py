"""A server on loopback with scripted answers for the command line."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Scripted:
    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])


Answers = Callable[[Asked], Scripted]


@dataclass
class StandIn:
    """`answers` maps `METHOD /path` below `/api/v1` to the answer, or to a function of the request."""

    url: str
    answers: dict[str, Scripted | Answers] = field(default_factory=dict[str, Scripted | Answers])
    asked: list[Asked] = field(default_factory=list[Asked])

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def answer(self, asked: Asked) -> Scripted:
        self.asked.append(asked)
        found = self.answers.get(f"{asked.method} {asked.path.removeprefix('/api/v1')}")
        if found is None:
            return problem(404, "not-found", f"There is no page {asked.path!r}.")
        return found if isinstance(found, Scripted) else found(asked)


def problem(status: int, rule: str, detail: str, **members: Any) -> Scripted:
    document = {
        "type": f"https://signalbox.io/problems/{rule}",
        "status": status,
        "detail": detail,
        **members,
    }
    return Scripted(document, status, {"content-type": "application/problem+json"})


@contextmanager
def server() -> Iterator[StandIn]:
    stand_in = StandIn("")

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            url = urlsplit(self.path)
            length = int(self.headers.get("content-length", 0))
            content = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            message = stand_in.answer(
                Asked(
                    self.command,
                    unquote(url.path),
                    dict(parse_qsl(url.query)),
                    headers,
                    json.loads(content) if content else None,
                )
            )
            body = message.body if isinstance(message.body, bytes) else json.dumps(message.body).encode()
            self.send_response(message.status)
            for name, value in {"content-type": "application/json", **message.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = _answer

        def log_message(self, format: str, *args: Any) -> None:
            """Tests are quiet."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stand_in.url = f"http://127.0.0.1:{listening.server_address[1]}"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stand_in
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()
