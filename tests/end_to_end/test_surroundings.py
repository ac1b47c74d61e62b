"""Bad environments: obstacles are reported in a sentence, and nothing is lost."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from schemas.envelope import Envelope
from schemas.identity import timestamp
from streams.decider.head import ChainHead
from streams.log import Append, Transaction
from streams.sqlite.log import SqliteLog
from tests.support.calls import ORGANIZATION, Calls, Reply, specification, until
from tests.support.connection import Connection
from tests.support.hang_guard import HANG_SECONDS
from tests.support.running_signalbox import ROOT, RunningSignalbox, definition


def refused(harness: RunningSignalbox, *options: str) -> subprocess.CompletedProcess[str]:
    """What becomes of a start that is to fail."""
    return subprocess.run(
        [*harness.argv(), *options],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        cwd=ROOT,
        check=False,
    )


def sentences(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The messages for the user who started it: every line is a log line in JSON."""
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    return [line["message"] for line in lines if (line["logger"], line["level"]) == ("signalbox", "error")]


@pytest.mark.parametrize("what", ["http", "xds", "gateway"])
def test_a_port_that_is_taken_is_named_with_the_option_that_chooses_another(
    envoy: Path, harness: RunningSignalbox, what: str
):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        setattr(harness, what, port)
        done = refused(harness)
    assert done.returncode == 1
    (sentence,) = sentences(done)
    assert f"port {port}" in sentence
    assert f"--{what} HOST:PORT" in sentence
    assert "Traceback" not in done.stderr
    assert harness.envoy() == 0, "no Envoy is left behind"


def test_readiness_says_that_envoy_cannot_come_back_because_its_port_was_taken(
    envoy: Path, harness: RunningSignalbox
):
    harness.up()
    calls = harness.calls()
    with socket.socket() as taking:
        taking.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

        def taken() -> bool:
            if pid := harness.envoy():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with suppress(OSError):
                taking.bind(("127.0.0.1", harness.gateway))
                taking.listen()
                return True
            return False

        until(taken, "the port is ours")
        until(lambda: calls.send("GET", "/healthz/ready").status == 503, "not ready")
        until(
            lambda: "is taken" in calls.send("GET", "/healthz/ready").json["detail"], "the reason is reported"
        )
        assert f"port {harness.gateway}" in calls.send("GET", "/healthz/ready").json["detail"]
    until(lambda: calls.send("GET", "/healthz/ready").status == 200, "ready again")


def test_a_data_directory_in_use_is_refused_with_the_process_that_uses_it(running: RunningSignalbox):
    assert running.process is not None
    done = refused(RunningSignalbox(running.data))
    assert done.returncode == 1
    (sentence,) = sentences(done)
    assert str(running.data) in sentence
    assert f"process {running.process.pid}" in sentence
    assert "--data" in sentence
    assert running.calls().ask("GET", "/projects").status == 200


async def _of_a_later_version(data: Path) -> None:
    event = Envelope(
        id="e-1",
        type="io.signalbox.gateway.vanished.v9",
        source="/signalbox",
        subject="organizations/default/gateways/local",
        time=timestamp(),
        partitionkey="default",
        data={"organization": "default", "name": "local"},
    )
    log = await SqliteLog.open(data)
    await log.commit(Transaction([Append("events", 0, [ChainHead().chain(event)])]))
    await log.close()


def test_a_register_of_a_later_version_is_refused_in_a_sentence(harness: RunningSignalbox):
    asyncio.run(_of_a_later_version(harness.data))
    done = subprocess.run(
        [*harness.argv(), "--no-envoy"],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 1
    (sentence,) = sentences(done)
    assert "io.signalbox.gateway.vanished.v9" in sentence and "needs a version" in sentence
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with some history, closed."""
    harness = RunningSignalbox(tmp_path_factory.mktemp("kept") / "data")
    try:
        harness.up("--no-envoy")
        calls = harness.calls()
        for i in range(60):
            assert calls.ask("PUT", f"/projects/p-{i}", {}, prefer="wait=60").status == 201
        calls.close()
        assert harness.down() == 0
    finally:
        harness.raze()
    return harness.data


@pytest.fixture
def sound(kept: Path, harness: RunningSignalbox) -> RunningSignalbox:
    """A harness on a copy of it, not up."""
    shutil.copytree(kept, harness.data)
    return harness


def overwritten(file: Path) -> None:
    """Some bytes in the middle are others."""
    with file.open("r+b") as log:
        log.seek(file.stat().st_size // 2)
        log.write(b"\xa5" * 4096)


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 5000)


def replaced(file: Path) -> None:
    file.write_text("something else altogether")


def gone(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("damage", [overwritten, cut, replaced, gone])
def test_a_start_on_a_damaged_log_fails_with_the_remedy(
    sound: RunningSignalbox, damage: Callable[[Path], None]
):
    damage(sound.data / "log.db")
    done = refused(sound)
    assert done.returncode == 1
    (sentence,) = sentences(done)
    assert "log.db" in sentence
    assert "restore" in sentence.lower()
    assert "signalbox doctor" in sentence
    assert "Traceback" not in done.stderr


def test_a_backup_is_gone_on_with(sound: RunningSignalbox, kept: Path):
    overwritten(sound.data / "log.db")
    shutil.rmtree(sound.data)
    shutil.copytree(kept, sound.data)
    sound.up("--no-envoy")
    calls = sound.calls()
    assert len(calls.all("projects")) == 61
    assert calls.ask("PUT", "/projects/afterwards", {}, prefer="wait=60").status == 201
    calls.close()


def test_doctor_finds_the_damage(sound: RunningSignalbox):
    def doctor() -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "signalbox", "doctor", "--data", str(sound.data)]
        environment = {**os.environ, "SIGNALBOX_URL": f"http://127.0.0.1:{sound.http}"}
        return subprocess.run(
            argv, capture_output=True, text=True, timeout=HANG_SECONDS, cwd=ROOT, env=environment, check=False
        )

    assert "the whole log is verified" in doctor().stdout
    overwritten(sound.data / "log.db")
    done = doctor()
    assert done.returncode == 1
    assert "log.db" in done.stdout
    assert "restore it from a backup" in done.stdout


# -- a disk that is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB, where we may mount one."""
    directory = tmp_path / "small"
    directory.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", str(directory)]
    if os.geteuid() != 0 or subprocess.run(mounting, capture_output=True, check=False).returncode != 0:
        pytest.skip("may not mount a small file system")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


@pytest.fixture
def on_small_disk(small_disk: Path, tmp_path: Path) -> Iterator[RunningSignalbox]:
    harness = RunningSignalbox(small_disk / "data", log_file=tmp_path / "signalbox.log")
    yield harness
    harness.raze()


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(b"x" * 4096)
    return filler


def test_on_a_full_disk_commands_are_refused_reads_go_on_and_free_space_is_enough_to_recover(
    envoy: Path, on_small_disk: RunningSignalbox, small_disk: Path, upstream: str
):
    harness = on_small_disk
    harness.up()
    calls = harness.calls()
    calls.publish("orders", specification("/orders", upstream))
    calls.settled(calls.deploy("orders"))
    process = harness.process

    filler = fill(small_disk)
    accepted: list[str] = []
    for i in range(2000):
        name = f"p-{i}"
        reply = calls.ask("PUT", f"/projects/{name}", {"display_name": "x" * 150}, prefer="wait=60")
        if reply.status == 503:
            break
        assert reply.status == 201
        accepted.append(name)
    else:
        pytest.fail("the disk never became full")
    assert "the disk is full" in reply.json["detail"]
    assert int(reply.headers["retry-after"]) > 0
    for path in ("/projects", "/apis/orders", "/deployments", "/events"):
        assert calls.ask("GET", path).status == 200, path
    assert calls.send("GET", "/healthz/live").status == 200
    assert harness.through("/orders/items")[1] == "orders@1"
    assert calls.ask("PUT", "/projects/late", {}, prefer="wait=60").status == 503
    ready = calls.send("GET", "/healthz/ready")
    assert (ready.status, ready.json["detail"]) == (503, "the log refuses writes: the disk is full")

    filler.unlink()

    assert calls.ask("PUT", "/projects/late", {}, prefer="wait=60").status == 201
    assert calls.send("GET", "/healthz/ready").status == 200
    calls.publish("orders", specification("/orders", upstream, display_name="Changed"))
    assert calls.settled(calls.deploy("orders"))["state"] == "serving"
    harness.answered("/orders/items", "orders@2")
    names = {item["name"] for item in calls.all("projects")}
    assert names == {"default", "late", *accepted}, "what was refused never happened"
    assert harness.process is process
    assert process is not None
    assert process.poll() is None


@pytest.mark.parametrize("options", [("--no-envoy",), ()])
def test_a_start_on_a_full_disk_names_it_and_the_remedy(
    small_disk: Path, on_small_disk: RunningSignalbox, options: tuple[str, ...]
):
    on_small_disk.up("--no-envoy")
    on_small_disk.down()
    fill(small_disk)
    done = refused(on_small_disk, *options)
    assert done.returncode == 1
    sentence = sentences(done)[-1]
    assert "free" in sentence
    assert str(on_small_disk.data) in sentence
    assert "--data" in sentence


def test_a_first_start_on_a_full_disk_names_it_and_the_remedy(
    small_disk: Path, on_small_disk: RunningSignalbox
):
    fill(small_disk)
    sentence = sentences(refused(on_small_disk))[-1]
    assert " 0 bytes are free on the disk" in sentence
    assert str(on_small_disk.data) in sentence


def test_a_read_only_data_directory_is_named(small_disk: Path, on_small_disk: RunningSignalbox):
    on_small_disk.up("--no-envoy")
    on_small_disk.down()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = refused(on_small_disk)
    assert done.returncode == 1
    (sentence,) = sentences(done)
    assert "read-only" in sentence.lower()
    assert str(on_small_disk.data) in sentence


# -- callers


@pytest.mark.parametrize("token", ["", "Bearer", "Bearer sba_wrong", "Basic YWRtaW46YWRtaW4="])
def test_no_token_and_a_wrong_token_are_turned_away(running: RunningSignalbox, token: str):
    headers = {"authorization": token} if token else {}
    for method, path in (("GET", "/projects"), ("POST", "/commands"), ("DELETE", "/apis/x")):
        connection = running.connection()
        status, answered, body = connection.ask(
            method, f"/api/v1/organizations/default{path}", b"", **headers
        )
        connection.close()
        assert status == 401
        assert answered["www-authenticate"].startswith("Bearer")
        assert answered["content-type"] == "application/problem+json"
        assert running.token.encode() not in body


def test_a_body_that_is_too_large_is_refused_announced_or_not(running: RunningSignalbox, calls: Calls):
    announced = Connection(running.http)
    head = (
        "POST /api/v1/organizations/default/commands HTTP/1.1\r\nhost: localhost\r\n"
        f"authorization: Bearer {running.token}\r\ncontent-type: application/cloudevents+json\r\n"
    )
    status, headers, body = announced.exchange(head + f"content-length: {2**30}\r\n\r\n")
    assert (status, headers["content-type"]) == (413, "application/problem+json")
    assert b'"limit":10485760' in body
    announced.close()

    chunked = Connection(running.http)
    chunk = b"%x\r\n%s\r\n" % (2**20, b" " * 2**20)
    status, _, _ = chunked.exchange(head + "transfer-encoding: chunked\r\n\r\n", *[chunk] * 12)
    assert status == 413
    chunked.close()
    assert calls.ask("GET", "/projects").status == 200


def test_the_second_of_two_callers_that_change_the_same_api_gets_the_current_version(
    running: RunningSignalbox, upstream: str
):
    first, second = running.calls(), running.calls()

    def put(calls: Calls, display_name: str, **headers: str) -> Reply:
        return calls.send(
            "PUT",
            f"{ORGANIZATION}/apis/contended",
            definition("contended", upstream, display_name).encode(),
            content_type="application/yaml",
            prefer="wait=60",
            **headers,
        )

    assert put(first, "Made").status == 201
    etag = second.ask("GET", "/apis/contended").headers["etag"]
    assert etag == '"1"'
    assert put(first, "First", if_match=etag).status == 200

    late = put(second, "Second", if_match=etag)

    assert late.status == 412
    assert late.json["type"].endswith("/stale-version")
    assert (late.headers["etag"], late.json["current_version"]) == ('"2"', 2)
    assert put(second, "Second").status == 428, "without If-Match its base version is unknown"
    assert second.ask("GET", "/apis/contended").json["spec"]["display_name"] == "First"
    assert put(second, "Second", if_match=late.headers["etag"]).status == 200


def test_a_command_on_another_version_than_it_expects_is_refused_too(calls: Calls, upstream: str):
    fields = {"name": "expected", "spec": specification("/expected", upstream), "expected_version": 0}
    assert calls.command("api.command.publish", fields).status == 200
    late = calls.command("api.command.publish", fields)
    assert late.status == 412
    assert late.json["current_version"] == 1
