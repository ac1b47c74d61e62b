"""The config topic in one SQLite file."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import fields
from functools import lru_cache
from itertools import islice
from operator import attrgetter
from pathlib import Path
from sys import intern
from typing import Any
from zlib import crc32

import orjson

from gateways.config_resource import ConfigResource, DeploymentRef
from streams.config_topic import Subscribers
from streams.log import LogDamaged, MessageTooLarge
from streams.sqlite.checks.set_aside import set_aside
from streams.sqlite.database import (
    CHECK_LIMIT,
    Kind,
    damaged,
    make_directory,
    prepare,
    structure_faults,
)
from streams.sqlite.group_commit import GroupCommit, UnitDefaults
from streams.sqlite.many_rows import execute_rows
from streams.sqlite.read_connection import ReadConnection
from streams.threads import in_thread

CHUNK = 200
LARGEST = 900_000_000
"""The maximal size of a body in bytes; SQLite's limit for a row is 10**9."""

CONFIG = Kind(
    file="config.db",
    first_version=2,
    synchronous="NORMAL",
    tables="""
CREATE TABLE entries (
    number INTEGER PRIMARY KEY,
    gateway TEXT NOT NULL,
    type TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    version TEXT NOT NULL,
    position INTEGER NOT NULL,
    body BLOB NOT NULL,
    requires BLOB NOT NULL,
    causes BLOB NOT NULL,
    checksum INTEGER NOT NULL,
    UNIQUE (gateway, type, name)
);
CREATE INDEX removals ON entries (position) WHERE body = x''
""",
)

_PUT = (
    "INSERT INTO entries (gateway, type, name, kind, version, position, body, requires, causes, checksum) "
    "VALUES {rows} ON CONFLICT (gateway, type, name) DO UPDATE SET kind = excluded.kind, "
    "version = excluded.version, position = excluded.position, body = excluded.body, "
    "requires = excluded.requires, causes = excluded.causes, checksum = excluded.checksum"
)
_LOAD = (
    "SELECT number, gateway, kind, type, name, version, position, body, requires, causes, "
    "checksum FROM entries WHERE number > ?{more} ORDER BY number LIMIT ?"
)

_EMPTY = b"[]"
_ref_values = attrgetter(*(field.name for field in fields(DeploymentRef)))

Put = Sequence[ConfigResource]


class _Unit(UnitDefaults):
    """See `group_commit.Unit`."""

    def __init__(self, announce: Callable[[Sequence[Put]], None]) -> None:
        self._announce = announce
        self._puts: list[Put] = []
        self._rows: dict[tuple[str, str, str], Sequence[Any]] = {}

    def add(self, request: Put) -> None:
        rows = {entry.key: _row(entry) for entry in request}
        self._rows.update(rows)
        self._puts.append(request)

    def write(self, db: sqlite3.Connection) -> None:
        execute_rows(db, _PUT, list(self._rows.values()))

    def announce(self) -> None:
        self._announce(self._puts)


class SqliteConfigTopic:
    """`streams.config_topic.ConfigTopic` on one file, for one process and one event loop."""

    def __init__(self, path: Path, checked: "Sequence[ConfigResource] | None" = None) -> None:
        """Use `open`. `checked`: all entries, when they were read for the check of the file."""
        self._path = path
        self._checked = checked
        self._reading = ReadConnection(CONFIG, path)
        self._subscribers = Subscribers()
        self.subscribe = self._subscribers.subscribe
        self._ahead: dict[tuple[str, str, str], ConfigResource] | None = None
        self._writer: GroupCommit[Put, None] = GroupCommit(
            CONFIG, path, lambda: _Unit(self._notify), "signalbox-config"
        )

    @classmethod
    async def open(cls, directory: Path, *, cleanly_closed: bool = False) -> "SqliteConfigTopic":
        """Opens it in a directory that the caller has locked. `cleanly_closed`: the file is unchanged
        since it was closed in order.

        Everything can be computed from the events, so a file of another version or with any damage is set
        aside, and the topic begins empty. Raises LogUnavailable.
        """
        make_directory(directory)
        return cls(*await in_thread(_prepared, directory, cleanly_closed=cleanly_closed))

    @property
    def refusing(self) -> str:
        """Why writes are refused at the moment, without a file's name; empty when they are accepted."""
        return self._writer.refusing

    async def read_ahead(self) -> None:
        """Reads all entries once, for all loads until `forget`. Raises LogUnavailable, LogDamaged."""
        # The directory is locked, and nothing was put since the check.
        entries, self._checked = self._checked, None
        if entries is None:
            entries = [entry async for chunk in self.load() for entry in chunk]
        self._ahead = {entry.key: entry for entry in entries}

    def forget(self) -> None:
        """Drops the entries that were read ahead."""
        self._ahead = None

    def partition_of(self, gateway: str) -> int:
        return 0

    async def claim(self, partition: int) -> None:
        """Nothing to do: the lock on the data directory excludes other writers."""

    async def release(self, partition: int) -> None:
        """Nothing to do: no other process can claim it."""

    async def repair(self, partition: int) -> int:
        return 0

    async def follow(self, partitions: Iterable[int] | None = None) -> None:
        """Waits until cancelled: subscribers are notified of all puts anyway."""
        await asyncio.get_running_loop().create_future()

    async def put(self, entries: Sequence[ConfigResource]) -> None:
        if entries:
            await self._writer.submit(tuple(entries))

    def require_size(self, entry: ConfigResource) -> None:
        if len(entry.body) > LARGEST:
            size = f"An entry of {len(entry.body):,} bytes is too large for the config file"
            raise MessageTooLarge(f"{size}, which takes {LARGEST:,}.")

    async def load(
        self,
        gateway: str | None = None,
        *,
        removals: bool = False,
        partitions: Iterable[int] | None = None,
        bodies: bool = True,
    ) -> AsyncIterator[list[ConfigResource]]:
        if self._ahead is not None and not removals:
            wanted = (e for e in tuple(self._ahead.values()) if e.body and gateway in (None, e.gateway))
            while chunk := list(islice(wanted, CHUNK)):
                yield chunk
                await asyncio.sleep(0)
            return
        statement = load_statement(gateway, removals=removals)
        after = 0
        while True:
            values = (after, CHUNK) if gateway is None else (after, gateway, CHUNK)
            rows = self._reading.query(statement, values)
            if rows:
                yield [entry_of_row(self._path, row) for row in rows]
            if len(rows) < CHUNK:
                return
            after = rows[-1][0]
            await asyncio.sleep(0)

    async def close(self) -> None:
        # The writer last: the last closed connection writes the journal back, which a read-only one cannot.
        self._reading.close()
        await self._writer.close()

    def _notify(self, puts: Sequence[Put]) -> None:
        for put in puts:
            if self._ahead is not None:
                self._ahead.update((entry.key, entry) for entry in put)
            self._subscribers.notify(put)


def load_statement(gateway: str | None, *, removals: bool) -> str:
    """Its parameters: the number to continue after, the gateway if given, the number of rows."""
    more = "" if removals else " AND body <> x''"
    return _LOAD.format(more=more if gateway is None else f"{more} AND gateway = ?")


def _prepared(directory: Path, *, cleanly_closed: bool) -> tuple[Path, Sequence[ConfigResource] | None]:
    """The file, and its entries if they were read to check it."""
    checked: list[ConfigResource] = []

    def require_sound(db: sqlite3.Connection, path: Path) -> None:
        checked[:] = _sound_entries(db, path)

    try:
        path = prepare(CONFIG, directory, check=None if cleanly_closed else require_sound)
        return path, None if cleanly_closed else checked
    except LogDamaged as error:
        set_aside(directory / CONFIG.file, error.reason or str(error))
    return prepare(CONFIG, directory, again=True), None


def _sound_entries(db: sqlite3.Connection, path: Path) -> list[ConfigResource]:
    """All entries, without removals. Raises LogDamaged, sqlite3.Error."""
    if path.stat().st_size <= CHECK_LIMIT and (faults := structure_faults(db, "integrity_check")):
        raise damaged(path, faults[0])
    rows = db.execute(load_statement(None, removals=True), (0, -1))
    return [entry for row in rows if (entry := entry_of_row(path, row)).body]


def _row(entry: ConfigResource) -> Sequence[Any]:
    values = (
        entry.gateway,
        entry.type,
        entry.name,
        entry.kind,
        entry.version,
        entry.position,
        entry.body,
        orjson.dumps(entry.requires) if entry.requires else _EMPTY,
        orjson.dumps([_ref_values(ref) for ref in entry.deployments]) if entry.deployments else _EMPTY,
    )
    return (*values, _checksum(*values))


def _checksum(
    gateway: str,
    type: str,
    name: str,
    kind: str,
    version: str,
    position: int,
    body: bytes,
    requires: bytes,
    causes: bytes,
) -> int:
    """The checksum of a whole row: SQLite does not detect a changed byte in a value."""
    identity = f"{gateway}\0{type}\0{name}\0{kind}\0{version}\0{position}\0".encode()
    return crc32(causes, crc32(requires, crc32(body, crc32(identity))))


@lru_cache(maxsize=1_024)
def _required(requires: bytes) -> tuple[tuple[str, str], ...]:
    """The same object for entries that require the same: many APIs have one upstream."""
    return tuple((intern(type), intern(name)) for type, name in orjson.loads(requires))


def entry_of_row(path: Path, row: Sequence[Any]) -> ConfigResource:
    """The entry of a row of `load_statement`. Raises LogDamaged when the row was changed."""
    _, gateway, kind, type, name, version, position, body, requires, causes, checksum = row
    try:
        if checksum != _checksum(gateway, type, name, kind, version, position, body, requires, causes):
            raise ValueError("its checksum is wrong")
        return ConfigResource(
            intern(gateway),  # as all entries of it, instead of a copy each
            intern(kind),
            intern(type),
            name,
            version,
            position,
            body,
            _required(requires),
            () if causes == _EMPTY else tuple(DeploymentRef(*ref) for ref in orjson.loads(causes)),
        )
    except (ValueError, TypeError) as error:
        raise damaged(path, f"the entry {type} {name} of {gateway}: {error}") from None
