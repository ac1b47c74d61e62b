"""`signalbox doctor`: what it finds, and which server it looks at."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from signalbox.cli.doctor.command import own_addresses
from signalbox.data_directory.listen_addresses import write_listen_addresses
from signalbox.machine.processes import process
from signalbox.settings import Address, Settings
from tests.signalbox.conftest import Run
from tests.signalbox.server_stand_in import Scripted, StandIn
from tests.support.free_ports import free_port


def ports(*taken: int) -> list[str]:
    given = [*taken, *(free_port() for _ in range(3 - len(taken)))]
    options = ("--http", "--xds", "--gateway")
    return [word for o, p in zip(options, given, strict=True) for word in (o, f"127.0.0.1:{p}")]


def test_doctor_where_nothing_runs_yet(bare: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNALBOX_URL", f"http://127.0.0.1:{free_port()}")
    ran = bare("doctor", *ports())
    assert ran.code == 0
    verdicts = [line.split()[:2] for line in ran.out.splitlines() if not line.startswith(" ")]
    assert verdicts == [
        ["ok", "Python:"],
        ["ok", "Envoy:"],
        ["note", "data:"],
        ["note", "server:"],
        ["ok", "HTTP"],
        ["ok", "xDS"],
        ["ok", "gateway"],
    ]
    assert "1.40" in ran.out


def test_doctor_checks_the_engine_whose_log_the_directory_holds(bare: Run, outside: Path) -> None:
    (outside / "data" / "kafka").mkdir(parents=True)
    only_kafka = bare("doctor", "--data", "data", *ports()).out
    assert "holds no log" not in only_kafka
    assert "Kafka: " in only_kafka
    (outside / "data" / "log.db").touch()
    both = bare("doctor", "--data", "data", *ports()).out
    assert "data: data: log.db" in both
    assert "note   other engine: data/kafka holds the log of a Signalbox on Kafka" in both


def test_doctor_finds_a_taken_port(bare: Run, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    port = stand_in.port
    monkeypatch.setenv("SIGNALBOX_URL", f"http://127.0.0.1:{free_port()}")
    ran = bare("doctor", *ports(port))
    assert ran.code == 1
    assert (
        f"wrong  HTTP port: 127.0.0.1:{port} is taken by another process\n"
        "       choose another with --http HOST:PORT\n" in ran.out
    )


def test_doctor_beside_a_running_server(run: Run, stand_in: StandIn) -> None:
    stand_in.answers["GET /healthz/ready"] = Scripted({})
    ran = run("doctor", *ports(stand_in.port))
    assert ran.code == 0
    assert f"ok     server: {stand_in.url} is ready\n" in ran.out
    assert "in use, as expected while Signalbox runs\n" in ran.out


def test_doctor_looks_where_the_server_of_the_data_directory_listens(
    bare: Run, stand_in: StandIn, outside: Path
) -> None:
    # given a server that was started with a port of its own
    stand_in.answers["GET /healthz/ready"] = Scripted({})
    (outside / "data").mkdir()
    http, xds, gateway = (Address("127.0.0.1", port) for port in (stand_in.port, free_port(), free_port()))
    write_listen_addresses(outside / "data", {"http": http, "xds": xds, "gateway": gateway})

    ran = bare("doctor", "--data", "data")

    assert f"ok     server: {stand_in.url} is ready\n" in ran.out
    assert f"ok     HTTP port: {http} is in use, as expected while Signalbox runs\n" in ran.out
    assert f"ok     xDS port: {xds} is free" in ran.out
    assert f"ok     gateway port: {gateway} is free" in ran.out
    other = free_port()
    assert f"xDS port: 127.0.0.1:{other} is free" in bare("doctor", "--data", "data", "--xds", str(other)).out


def test_doctor_knows_the_ports_of_a_server_that_is_not_ready(
    bare: Run, stand_in: StandIn, outside: Path
) -> None:
    stand_in.answers["GET /healthz/ready"] = Scripted(
        {"title": "Not ready", "detail": "Envoy." * 50}, status=503
    )
    (outside / "data").mkdir()
    http = Address("127.0.0.1", stand_in.port)
    write_listen_addresses(outside / "data", {"http": http})

    ran = bare("doctor", "--data", "data")

    assert f"wrong  server: {stand_in.url} answers 503: {'Envoy.' * 50}\n" in ran.out
    assert f"ok     HTTP port: {http} is in use, as expected while Signalbox runs\n" in ran.out


def test_doctor_knows_the_ports_of_roles_in_other_directories(outside: Path) -> None:
    program = outside / "signalbox"
    program.write_text(
        "import socket\n"
        "listening = socket.create_server(('127.0.0.1', 0))\n"
        "print(listening.getsockname()[1], flush=True)\n"
        "input()\n"
    )
    command = [sys.executable, program, "run", "xds"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as role:
        assert role.stdin is not None and role.stdout is not None
        xds = Address("127.0.0.1", int(role.stdout.readline()))
        settings = Settings(data=outside, engine="kafka", xds=xds, http=Address("127.0.0.1", free_port()))

        assert own_addresses(settings) == {xds}

        role.stdin.write("\n")


def test_doctor_looks_at_the_ports_of_the_next_start_when_the_server_has_ended(
    bare: Run, outside: Path
) -> None:
    (outside / "data").mkdir()
    (outside / "data" / "listening.json").write_text('{"pid": 1, "started": "before", "xds": "127.0.0.1:1"}')
    assert "xDS port: 127.0.0.1:18000 is " in bare("doctor", "--data", "data").out


def test_doctor_does_not_take_another_server_for_that_of_the_directory(
    bare: Run, stand_in: StandIn, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a copy of a directory, and a server at the default address that works in another one
    stand_in.answers["GET /healthz/ready"] = Scripted({})
    default = Settings(http=Address("127.0.0.1", stand_in.port))

    def settings(*_: object, data: str, **others: object) -> Settings:
        return replace(default, data=Path(data))

    monkeypatch.setattr("signalbox.cli.doctor.command.from_environment", settings)
    (outside / "copy").mkdir()

    ran = bare("doctor", "--data", "copy")

    assert ran.code == 1
    assert (
        f"note   server: no process uses copy; the server at {stand_in.url} uses another directory\n"
        in ran.out
    )
    assert f"wrong  HTTP port: {default.http} is taken by another process\n" in ran.out
    assert "as it should" not in ran.out


def test_doctor_asks_the_server_at_the_address_that_is_given(bare: Run, stand_in: StandIn) -> None:
    stand_in.answers["GET /healthz/ready"] = Scripted({})
    ran = bare("doctor", *ports(stand_in.port))
    assert f"ok     server: {stand_in.url} is ready\n" in ran.out


def test_doctor_finds_damaged_data(bare: Run, outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNALBOX_URL", f"http://127.0.0.1:{free_port()}")
    (outside / "data").mkdir()
    (outside / "data" / "log.db").write_bytes(b"this is not a database" * 1000)
    ran = bare("doctor", "--data", "data", *ports())
    assert ran.code == 1
    assert "wrong  data: data: " in ran.out


def test_doctor_says_when_data_is_a_file(bare: Run, outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNALBOX_URL", f"http://127.0.0.1:{free_port()}")
    (outside / "data").write_text("")
    ran = bare("doctor", "--data", "data", *ports())
    assert ran.code == 1
    assert "wrong  data: data is not a directory\n       choose another with --data\n" in ran.out


def test_doctor_says_when_data_cannot_be_read(
    bare: Run, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNALBOX_URL", f"http://127.0.0.1:{free_port()}")
    (outside / "data" / "contents").mkdir(parents=True)
    ran = bare("doctor", "--data", "data", *ports())
    assert ran.code == 1
    assert "wrong  data: data/contents cannot be read: is a directory\n" in ran.out


def test_doctor_recognises_the_envoy_that_outlived_its_signalbox(
    bare: Run, stand_in: StandIn, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNALBOX_URL", f"http://127.0.0.1:{free_port()}")
    itself = process(os.getpid())
    assert itself is not None
    (outside / "data" / "envoy").mkdir(parents=True)
    pid_file = outside / "data" / "envoy" / "envoy.pid"
    gateway = f"127.0.0.1:{stand_in.url.rpartition(':')[2]}"
    asked = ("doctor", "--data", "data", *ports()[:4], "--gateway", gateway)

    pid_file.write_text(json.dumps({"pid": itself.pid, "started": itself.started}))
    output = f"{gateway} is taken, and the Envoy of data still runs (process {itself.pid})"
    assert f"note   gateway port: {output}\n" in bare(*asked).out

    pid_file.write_text(json.dumps({"pid": itself.pid, "started": "before"}))
    assert f"wrong  gateway port: {gateway} is taken by another process\n" in bare(*asked).out
