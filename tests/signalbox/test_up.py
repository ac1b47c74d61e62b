"""`signalbox up`: a start that fails leaves nothing behind, and the greeting names a sample that answers."""

import asyncio
import sys
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from signalbox.envoy.supervisor import EnvoyMissing
from signalbox.machine.ports import PortUnusable, listen
from signalbox.roles import ROLES
from signalbox.roles.runner import LISTENERS, deploys_sample, everything, require_possible_start
from signalbox.settings import Address, Settings
from signalbox.up import greet, sample_answers
from tests.support.free_ports import free_port


@pytest.fixture
def taken() -> Iterator[Address]:
    with listen(0) as other:
        yield Address("127.0.0.1", other.getsockname()[1])


def settings(directory: Path, **addresses: Address) -> Settings:
    at = {option: addresses.get(option, Address("127.0.0.1", free_port())) for option in LISTENERS}
    return Settings(data=directory, http=at["http"], xds=at["xds"], gateway=at["gateway"])


@pytest.mark.parametrize("option", LISTENERS)
async def test_a_taken_port_leaves_no_data_directory(tmp_path: Path, taken: Address, option: str) -> None:
    data = tmp_path / "data"
    with pytest.raises(PortUnusable, match=f"choose another with --{option} HOST:PORT"):
        async with everything(settings(data, **{option: taken})):
            pass
    assert not data.exists()


def test_a_missing_envoy_is_found_before_there_is_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> Path:
        raise EnvoyMissing("there is none")

    monkeypatch.setattr("signalbox.roles.runner.find_binary", missing)
    with pytest.raises(EnvoyMissing):
        require_possible_start(settings(tmp_path / "data"), ROLES)
    require_possible_start(settings(tmp_path / "data"), [name for name in ROLES if name != "envoy"])


def test_the_envoy_of_an_earlier_start_may_have_the_port_of_the_gateway(
    tmp_path: Path, taken: Address
) -> None:
    (tmp_path / "log.db").touch()
    require_possible_start(settings(tmp_path, gateway=taken), ["envoy"])


@pytest.mark.parametrize(
    ("names", "deploys"), [(ROLES, True), (["api"], False), (["api", "projector"], False), (["envoy"], False)]
)
def test_only_a_process_whose_envoy_reaches_its_service_deploys_the_sample(
    names: Collection[str], deploys: bool
) -> None:
    assert deploys_sample(Settings(first_start=True), names) is deploys
    assert not deploys_sample(Settings(), names)
    assert not deploys_sample(Settings(first_start=True, sample=False), names)


@asynccontextmanager
async def a_gateway(asked: list[bytes]) -> AsyncIterator[Address]:
    """It serves the sample API after two other answers."""
    answers = iter((b"404 Not Found", b"503 Service Unavailable", b"200 OK"))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line.startswith(b"GET "):
                asked.append(line)
            if line == b"\r\n":
                writer.write(b"HTTP/1.1 %b\r\ncontent-length: 0\r\n\r\n" % next(answers))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield Address("0.0.0.0", server.sockets[0].getsockname()[1])


async def test_the_sample_is_shown_once_the_gateway_answers_it() -> None:
    asked: list[bytes] = []
    async with a_gateway(asked) as gateway:
        assert await sample_answers(gateway)
    assert asked == [b"GET /hello/you HTTP/1.1\r\n"] * 3


async def test_the_greeting_is_written_in_one_piece_with_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    async with a_gateway([]) as gateway:
        of = settings(tmp_path / "[data]", gateway=gateway)
        monkeypatch.setattr(sys.stdout, "write", written.append)
        await greet(of, 1.23, sample=True)
    (greeting,) = filter(None, written)
    lines = greeting.splitlines()
    assert lines[0] == "Signalbox is up (1.2 s). Stop with Ctrl-C."
    assert f"  data     {of.data}" in lines
    assert lines[-2:] == [f"  curl {gateway.url}/hello/you", ""]


async def test_a_gateway_that_does_not_answer_is_not_waited_for_without_end() -> None:
    assert not await sample_answers(Address("127.0.0.1", free_port()), 0)
