"""One server for all processes of a run. Threads stand for processes: the locks are of open files."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.support.hang_guard import HANG_SECONDS
from tests.support.shared import shared


class Server:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.seen: list[str] = []

    @contextmanager
    def running(self) -> Generator[Path]:
        self.seen.append("started")
        yield self.directory
        self.seen.append("ended")


def test_the_first_starts_it_and_ends_it_after_the_last(tmp_path: Path) -> None:
    server = Server(tmp_path / "server")
    note = tmp_path / "note"
    may_leave = threading.Event()
    joined = threading.Event()

    def other() -> None:
        with shared(note, server.running) as directory:
            assert directory == server.directory
            joined.set()
            assert may_leave.wait(HANG_SECONDS)
            server.seen.append("the other leaves")

    thread = threading.Thread(target=other)
    # given a process that has started it, and another that has joined
    with shared(note, server.running) as directory:
        assert directory == server.directory
        thread.start()
        assert joined.wait(HANG_SECONDS)
        # when the first leaves before the other
        threading.Timer(0.1, may_leave.set).start()
    thread.join(HANG_SECONDS)
    # then it has ended the server after that
    assert server.seen == ["started", "the other leaves", "ended"]


def test_a_process_that_comes_after_the_end_starts_it_again(tmp_path: Path) -> None:
    server = Server(tmp_path / "server")
    for _ in range(2):
        with shared(tmp_path / "note", server.running):
            assert server.seen[-1] == "started"
    assert server.seen == ["started", "ended"] * 2
