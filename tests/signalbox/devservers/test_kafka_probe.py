"""Kafka counts as started when its metadata names a broker and a controller."""

import socket
import struct
import threading

import pytest

from signalbox.devservers.kafka.probe import live, serves
from tests.support.free_ports import free_port


def answer(brokers: int, controller: int, rack: str | None = None) -> bytes:
    output = b"" if rack is None else rack.encode()
    broker = struct.pack(">ih9sih", 1, 9, b"127.0.0.1", 9092, -1 if rack is None else len(output)) + output
    return struct.pack(">ii", 1, brokers) + broker * brokers + struct.pack(">ii", controller, 0)


@pytest.mark.parametrize("rack", [None, "", "a"])
def test_a_broker_and_a_controller_are_live(rack: str | None) -> None:
    assert live(answer(1, 1, rack))
    assert live(answer(3, 2, rack))


@pytest.mark.parametrize("output", [answer(0, 1), answer(1, -1), b"", answer(1, 1)[:20]])
def test_anything_less_is_not(output: bytes) -> None:
    assert not live(output)


def test_a_closed_port_serves_nothing() -> None:
    assert not serves("127.0.0.1", free_port())


def test_a_broker_that_hangs_up_serves_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.recv(100)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        assert not serves("127.0.0.1", server.getsockname()[1])
        thread.join()
