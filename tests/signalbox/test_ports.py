"""Ports on this machine."""

import socket
from pathlib import Path

import pytest

from signalbox.machine.ports import PortUnusable, free_port, last_port, remembered_port, require_free


def test_a_free_port_is_remembered(tmp_path: Path) -> None:
    file = tmp_path / "a.port"
    assert last_port(file) is None
    port = remembered_port(file)
    assert remembered_port(file) == port == last_port(file)


def test_a_remembered_port_that_is_taken_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "a.port"
    port = remembered_port(file)
    with socket.create_server(("127.0.0.1", port)):
        other = remembered_port(file)
    assert other != port
    assert last_port(file) == other


@pytest.mark.parametrize("text", ["", "http", "0", "65536", "-1"])
def test_an_invalid_port_is_not_remembered(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.port").write_text(text)
    assert last_port(tmp_path / "a.port") is None


def test_a_port_shared_with_reuseport_counts_as_taken() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(PortUnusable, match="is taken by another program; choose another with --x"):
            require_free("127.0.0.1", other.getsockname()[1], what="x", option="--x")


def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    with pytest.raises(PortUnusable, match=r"x: cannot listen on 192\.0\.2\.1:\d+ \(cannot assign"):
        require_free("192.0.2.1", free_port(), what="x", option="--x")
