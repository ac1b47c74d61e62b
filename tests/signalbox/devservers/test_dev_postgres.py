"""A PostgreSQL on this machine keeps committed data, however it ends, and rejects other users."""

import importlib
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from signalbox.devservers.account import server_account
from signalbox.devservers.bound_process import DirectoryLock
from signalbox.devservers.errors import AlreadyRunning, StartFailed, Unavailable
from signalbox.devservers.postgres import socket_directory
from signalbox.devservers.postgres.files import program_files
from signalbox.devservers.postgres.server import DevPostgres
from tests.support.free_ports import free_port


def rows(url: str, *statements: str) -> list[str]:
    """What the last statement answers, all in one transaction."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            for statement in statements[:-1]:
                connection.execute(text(statement))
            return [str(row[0]) for row in connection.execute(text(statements[-1]))]
    finally:
        engine.dispose()


def test_committed_data_is_there_after_a_kill_and_after_a_stop(own_postgres: DevPostgres) -> None:
    url = own_postgres.start()
    rows(url, "create table facts (name text)", "insert into facts values ('before the kill') returning 1")
    own_postgres.kill()
    assert not own_postgres.running

    assert own_postgres.start() == url
    rows(url, "insert into facts values ('after the kill') returning 1")
    own_postgres.stop()
    assert own_postgres.pid == 0

    again = DevPostgres(own_postgres.directory)
    try:
        assert again.start() == url
        assert rows(url, "select name from facts order by 1") == ["after the kill", "before the kill"]
    finally:
        again.kill()


def test_none_of_its_processes_outlives_a_kill(own_postgres: DevPostgres) -> None:
    # given connections, each of which is a process of the server
    engine = create_engine(own_postgres.start(), pool_size=40)
    connections = [engine.connect() for _ in range(40)]
    # when it is killed
    own_postgres.kill()
    # then none of them answers any more, and none holds the directory
    lock = DirectoryLock(own_postgres.directory / "lock")
    assert lock.take(0)
    lock.release()
    for connection in connections:
        with pytest.raises(OperationalError):
            connection.execute(text("select 1"))
        connection.invalidate()
    engine.dispose()


def test_a_second_start_in_the_directory_is_refused_and_says_where_the_first_is(
    shared_postgres: DevPostgres, postgres_server: str
) -> None:
    with pytest.raises(AlreadyRunning, match="SIGNALBOX_POSTGRES=") as refused:
        DevPostgres(shared_postgres.directory).start()
    assert refused.value.address == postgres_server


def test_text_sorts_by_its_bytes_and_times_are_utc(postgres_url: str) -> None:
    assert rows(postgres_url, "select * from (values ('b'), ('B'), ('a'), ('é')) v order by 1") == [
        "B",
        "a",
        "b",
        "é",
    ]
    assert rows(postgres_url, "show timezone") == ["UTC"]


def test_over_tcp_it_asks_for_the_password(own_postgres: DevPostgres) -> None:
    assert rows(own_postgres.start(), "show listen_addresses") == [""]
    assert own_postgres.tcp_url == ""
    own_postgres.kill()
    server = DevPostgres(own_postgres.directory, free_port())
    try:
        server.start()
        assert rows(server.tcp_url, "select current_user") == ["signalbox"]
        wrong = make_url(server.tcp_url).set(drivername="postgresql", password="wrong")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(wrong.render_as_string(hide_password=False))
    finally:
        server.kill()


def test_only_the_owner_reaches_its_socket_and_its_password(shared_postgres: DevPostgres) -> None:
    socket = Path(str(make_url(shared_postgres.start()).query["host"]))
    assert socket.stat().st_mode & 0o077 == 0
    assert (shared_postgres.directory / "password").stat().st_mode & 0o077 == 0


def test_a_client_without_the_password_is_refused_on_the_socket_too(postgres_server: str) -> None:
    url = make_url(postgres_server).set(drivername="postgresql")
    for stranger in (url.difference_update_query(["passfile"]), url.set(password="guessed")):
        with pytest.raises(
            psycopg.OperationalError, match=r"no password supplied|password authentication failed"
        ):
            psycopg.connect(stranger.render_as_string(hide_password=False), passfile="/dev/null")


def test_data_made_before_the_socket_asked_for_it_have_the_password(own_postgres: DevPostgres) -> None:
    own_postgres.stop()
    (own_postgres.directory / "pgpass").unlink()
    assert rows(own_postgres.start(), "select current_user") == ["signalbox"]
    assert (own_postgres.directory / "pgpass").stat().st_mode & 0o077 == 0


def test_without_its_password_it_says_what_to_do(own_postgres: DevPostgres) -> None:
    own_postgres.stop()
    (own_postgres.directory / "password").unlink()
    with pytest.raises(StartFailed, match=r"put the file back, or remove .* to begin with an empty database"):
        own_postgres.start()


def test_data_of_another_version_is_left_alone(own_postgres: DevPostgres) -> None:
    own_postgres.stop()
    made = own_postgres.directory / "data" / "PG_VERSION"
    made.write_text("12\n")
    with pytest.raises(StartFailed, match=r"was made by PostgreSQL 12, and .* dump and load"):
        own_postgres.start()


def test_a_first_start_that_was_cut_off_is_done_again(own_postgres: DevPostgres) -> None:
    own_postgres.stop()
    (own_postgres.directory / "data").rename(own_postgres.directory / "data.new")
    (own_postgres.directory / "data.new" / "PG_VERSION").unlink()
    assert rows(own_postgres.start(), "select 1") == ["1"]


def test_a_start_that_fails_reports_the_servers_message(own_postgres: DevPostgres) -> None:
    own_postgres.stop()
    server = DevPostgres(own_postgres.directory, settings={"shared_buffers": "many"})
    with pytest.raises(StartFailed, match=r"ended while it started: .*shared_buffers.*postgresql\.log"):
        server.start()
    assert not server.running


def test_a_socket_whose_path_would_be_too_long_is_elsewhere(tmp_path: Path) -> None:
    account = server_account()
    deep = tmp_path / ("deep" * 30)
    deep.mkdir()
    found = socket_directory.socket_directory(deep, account)
    try:
        assert len(str(found)) <= socket_directory.LONGEST
        assert found.stat().st_mode & 0o777 == 0o700
        assert socket_directory.socket_directory(deep, account) == found
        found.chmod(0o755)
        with pytest.raises(StartFailed, match=f"{found} is not a private folder"):
            socket_directory.socket_directory(deep, account)
    finally:
        found.rmdir()


def test_a_missing_package_is_reported_with_the_remedy() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("no_such_package")
    with pytest.raises(Unavailable, match=r"signalbox\[devservers\].*SIGNALBOX_POSTGRES"):
        program_files("no_such_package")
