"""What the command line says of a server that does not read the whole request."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.signalbox.answers import golden
from tests.signalbox.conftest import Run

LARGE = 12_000_000


@contextmanager
def closing_early(answer: bytes) -> Iterator[str]:
    """A server that reads the headers of one request, answers, and closes; its address."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            read = b""
            while b"\r\n\r\n" not in read:
                read += connection.recv(1000)
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        thread.join()
        listening.close()


def too_large() -> bytes:
    body = json.dumps({"type": "https://signalbox.io/problems/body-too-large", "detail": "Up to 10 bytes."})
    head = "HTTP/1.1 413 Content Too Large\r\ncontent-type: application/problem+json\r\nconnection: close\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()


def test_the_answer_to_a_request_that_is_too_large_is_read(
    bare: Run, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (outside / "large.yaml").write_text("x" * LARGE)
    with closing_early(too_large()) as url:
        monkeypatch.setenv("SIGNALBOX_URL", url)
        ran = bare("apply", "-f", "large.yaml")
    assert ran.code == 1
    assert ran.err.startswith("large.yaml:1: error: Up to 10 bytes.\n")


def test_a_server_that_closes_without_an_answer_is_distinguished_from_none(
    bare: Run, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (outside / "large.yaml").write_text("x" * LARGE)
    with closing_early(b"") as url:
        monkeypatch.setenv("SIGNALBOX_URL", url)
        ran = bare("apply", "-f", "large.yaml")
    assert ran.code == 1
    assert ran.err.endswith(
        golden(f"""
        error: {url} closed the connection while a request of 12,000,072 bytes was sent
        hint: it may be too large, or the server stopped: send fewer or smaller files, and see its log
        """)
    )
