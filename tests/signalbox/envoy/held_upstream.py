"""An upstream that answers on request of the test, and checks of a process's listeners."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.hang_guard import HANG_SECONDS


@dataclass(frozen=True)
class HeldUpstream:
    """`asked` is set by the first request; every request is answered once `release` is set."""

    port: int
    asked: threading.Event
    release: threading.Event


@contextmanager
def held_upstream() -> Iterator[HeldUpstream]:
    asked, release = threading.Event(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.set()
            release.wait(HANG_SECONDS)
            self.send_response(200)
            self.send_header("content-length", "13")
            self.end_headers()
            self.wfile.write(b"from upstream")

        def log_message(self, format: str, *args: Any) -> None:
            """Tests are quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield HeldUpstream(server.server_address[1], asked, release)
    finally:
        release.set()
        server.shutdown()
        thread.join()
        server.server_close()


async def until_refused(port: int) -> None:
    """Returns when the port is closed."""
    async with asyncio.timeout(HANG_SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                return
            writer.close()
            await asyncio.sleep(0.02)
