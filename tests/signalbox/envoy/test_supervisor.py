"""The Envoy supervisor, with the real Envoy."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import orjson
import pytest
import uvloop

from signalbox.envoy.admin import EnvoyAdmin, admin_socket
from signalbox.envoy.supervisor import EnvoyNotReady, EnvoySupervisor
from signalbox.machine.ports import PortUnusable
from signalbox.machine.processes import listening_ports, process
from tests.signalbox.envoy.envoy_bootstrap import static_bootstrap
from tests.signalbox.envoy.held_upstream import held_upstream, until_refused
from tests.support.free_ports import free_port
from tests.support.hang_guard import HANG_SECONDS

ROOT = Path(__file__).parents[3]


@pytest.fixture
def port() -> int:
    return free_port()


Make = Callable[..., EnvoySupervisor]


@pytest.fixture
async def make(tmp_path: Path, port: int) -> AsyncIterator[Make]:
    made: list[EnvoySupervisor] = []

    def supervisor(
        body: str = "here",
        directory: str = "envoy",
        upstream: int = 0,
        drain_within: float = HANG_SECONDS,
        adopt_within: float = HANG_SECONDS,
    ) -> EnvoySupervisor:
        made.append(
            EnvoySupervisor(
                directory=tmp_path / directory,
                bootstrap=lambda admin: static_bootstrap(port, admin, body, upstream),
                listen=("127.0.0.1", port),
                concurrency=1,
                drain_within=drain_within,
                adopt_within=adopt_within,
            )
        )
        return made[-1]

    yield supervisor
    for one in made:
        await one.stop()


async def answer(port: int) -> str:
    def get() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=HANG_SECONDS) as response:
            return response.read().decode()

    return await asyncio.to_thread(get)


async def test_starts_envoy_and_says_when_it_serves(make: Make, port: int) -> None:
    envoy = make()
    assert not await envoy.ready()
    await envoy.start()
    await envoy.wait_ready()
    assert await answer(port) == "here"
    assert envoy.status.state == "running"
    assert not envoy.status.adopted


async def test_its_files_are_for_the_owner_only(make: Make, tmp_path: Path) -> None:
    await make().start()
    directory = tmp_path / "envoy"
    (config,) = directory.glob("bootstrap-*.json")
    assert directory.stat().st_mode & 0o777 == 0o700
    assert config.stat().st_mode & 0o777 == 0o600
    for file in ("envoy.pid", "envoy.log", "access.log"):
        assert (directory / file).stat().st_mode & 0o777 == 0o600


async def test_its_admin_interface_is_for_the_owner_only(make: Make, tmp_path: Path, port: int) -> None:
    envoy = make()
    await envoy.start()
    await envoy.wait_ready()

    socket_file = admin_socket(tmp_path / "envoy")
    assert socket_file.is_socket()
    assert socket_file.stat().st_mode & 0o777 == 0o600
    assert socket_file.parent.stat().st_mode & 0o777 == 0o700
    assert listening_ports(envoy.status.pid) == {port}


async def test_its_admin_interface_works_below_a_long_path(make: Make, port: int) -> None:
    envoy = make(directory="/".join(["a-directory-with-a-long-name"] * 5))
    await envoy.start()
    await envoy.wait_ready()
    assert listening_ports(envoy.status.pid) == {port}


async def test_an_admin_directory_of_others_is_refused(make: Make, tmp_path: Path) -> None:
    (tmp_path / "envoy").mkdir()
    (tmp_path / "envoy" / "socket").mkdir()
    (tmp_path / "envoy" / "socket").chmod(0o777)
    with pytest.raises(OSError, match="remove it and start again"):
        await make().start()


async def test_stop_lets_requests_in_flight_end(make: Make, port: int) -> None:
    with held_upstream() as upstream:
        envoy = make(upstream=upstream.port)
        await envoy.start()
        await envoy.wait_ready()
        asking = asyncio.create_task(answer(port))
        await asyncio.to_thread(upstream.asked.wait, HANG_SECONDS)

        stopping = asyncio.create_task(envoy.stop())
        await until_refused(port)
        upstream.release.set()

        assert await asking == "from upstream"
        await stopping
    assert envoy.status.state == "stopped"


async def test_stop_waits_only_so_long_for_a_request(make: Make, port: int) -> None:
    with held_upstream() as upstream:
        envoy = make(upstream=upstream.port, drain_within=0.2)
        await envoy.start()
        await envoy.wait_ready()
        asking = asyncio.create_task(answer(port))
        await asyncio.to_thread(upstream.asked.wait, HANG_SECONDS)

        await envoy.stop()

        with pytest.raises(OSError):
            await asking
    assert envoy.status.state == "stopped"


async def test_stop_ends_it(make: Make, tmp_path: Path) -> None:
    envoy = make()
    await envoy.start()
    await envoy.wait_ready()
    pid = envoy.status.pid
    await envoy.stop()
    assert process(pid) is None
    assert envoy.status.state == "stopped"
    assert not (tmp_path / "envoy" / "envoy.pid").exists()


async def test_restarts_it_when_it_dies(make: Make, port: int) -> None:
    envoy = make()
    await envoy.start()
    await envoy.wait_ready()
    first = envoy.status.pid
    os.kill(first, signal.SIGKILL)
    status = await envoy.until(lambda s: s.restarts == 1)
    assert status.reason == "killed by SIGKILL"
    assert status.pid not in (0, first)
    await envoy.wait_ready()
    assert await answer(port) == "here"


async def test_says_why_it_cannot_run_without_secrets(tmp_path: Path, port: int) -> None:
    envoy = EnvoySupervisor(
        directory=tmp_path / "envoy",
        bootstrap=lambda admin: {"no_such_field": "hush-hush"},
        listen=("127.0.0.1", port),
        secrets=("hush-hush", "no_such_field"),
    )
    await envoy.start()
    status = await envoy.until(lambda s: s.restarts == 1)
    await envoy.until(lambda s: s.state == "waiting")
    with pytest.raises(EnvoyNotReady, match=r"not ready within 0\.01 s: exit code 1: .*redacted"):
        await envoy.wait_ready(within=0.01)
    await envoy.stop()
    assert "hush-hush" not in status.reason
    assert "redacted" in status.reason


@pytest.fixture
def outlived(tmp_path: Path, port: int) -> int:
    """The id of an Envoy whose supervisor was killed."""
    supervising = subprocess.Popen(
        [sys.executable, "-m", "tests.signalbox.envoy.supervise", str(tmp_path / "envoy"), str(port)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    with supervising:
        assert supervising.stdout
        line = supervising.stdout.readline()
        supervising.kill()
    return int(line)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """Another program's process."""
    with subprocess.Popen(["sleep", "600"]) as running:
        yield running
        running.kill()


async def test_adopts_the_envoy_that_outlived_a_kill(make: Make, outlived: int, port: int) -> None:
    assert await answer(port) == "here"

    envoy = make()
    await envoy.start()
    assert envoy.status.adopted
    assert envoy.status.pid == outlived
    assert await envoy.ready()

    os.kill(outlived, signal.SIGKILL)
    status = await envoy.until(lambda s: s.restarts == 1)
    assert not status.adopted
    await envoy.wait_ready()
    assert await answer(port) == "here"


async def test_adopts_it_even_if_its_id_was_never_written_down(
    make: Make, tmp_path: Path, outlived: int
) -> None:
    (tmp_path / "envoy" / "envoy.pid").unlink()
    envoy = make()
    await envoy.start()
    assert (envoy.status.pid, envoy.status.adopted) == (outlived, True)


async def test_replaces_it_when_the_configuration_is_another(make: Make, outlived: int, port: int) -> None:
    envoy = make(body="changed")
    await envoy.start()
    await envoy.wait_ready()
    assert process(outlived) is None
    assert not envoy.status.adopted
    assert await answer(port) == "changed"


async def test_replaces_it_when_it_was_left_draining(
    make: Make, tmp_path: Path, outlived: int, port: int
) -> None:
    await EnvoyAdmin(admin_socket(tmp_path / "envoy")).drain(HANG_SECONDS)

    envoy = make()
    await envoy.start()
    await envoy.wait_ready()

    assert process(outlived) is None
    assert not envoy.status.adopted
    assert await answer(port) == "here"


async def test_replaces_it_when_it_does_not_answer(make: Make, outlived: int, port: int) -> None:
    os.kill(outlived, signal.SIGSTOP)

    envoy = make(adopt_within=0.2)
    await envoy.start()
    await envoy.wait_ready()

    assert process(outlived) is None
    assert not envoy.status.adopted
    assert await answer(port) == "here"


async def test_stop_ends_one_that_does_not_answer(make: Make) -> None:
    envoy = make()
    await envoy.start()
    await envoy.wait_ready()
    pid = envoy.status.pid
    os.kill(pid, signal.SIGSTOP)

    await envoy.stop()

    assert process(pid) is None


async def test_a_stale_pid_file_never_kills_another_process(
    make: Make, tmp_path: Path, stranger: "subprocess.Popen[bytes]"
) -> None:
    found = process(stranger.pid)
    assert found
    (tmp_path / "envoy").mkdir()
    pid_file = tmp_path / "envoy" / "envoy.pid"
    pid_file.write_bytes(orjson.dumps({"pid": stranger.pid, "started": found.started}))
    envoy = make()
    await envoy.start()
    assert envoy.status.pid != stranger.pid
    await envoy.stop()
    assert stranger.poll() is None


def test_notices_a_death_under_uvloop_too(tmp_path: Path, port: int) -> None:
    async def scenario() -> None:
        envoy = EnvoySupervisor(
            directory=tmp_path / "envoy",
            bootstrap=lambda admin: static_bootstrap(port, admin),
            listen=("127.0.0.1", port),
        )
        await envoy.start()
        os.kill(envoy.status.pid, signal.SIGKILL)
        await envoy.until(lambda s: s.restarts == 1)
        await envoy.stop()

    uvloop.run(scenario())


async def test_a_taken_port_is_one_sentence_and_starts_nothing(make: Make, tmp_path: Path, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        envoy = make()
        with pytest.raises(PortUnusable) as caught:
            await envoy.start()
    assert str(caught.value) == (
        f"the gateway: port {port} on 127.0.0.1 is taken by another program; "
        "choose another with --gateway HOST:PORT"
    )
    assert envoy.status.pid == 0
    assert not (tmp_path / "envoy" / "envoy.pid").exists()
