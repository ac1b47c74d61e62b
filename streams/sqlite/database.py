"""SQLite files in a data directory: created atomically, and checked when they are opened."""

import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streams.log import LogDamaged, LogError, LogUnavailable
from streams.sqlite.journal import journal_fault
from streams.whole_file import write_whole

CONTENTS = "contents"
"""Lists the databases that were created in a directory: a missing one is damage, not a fresh start."""

APPLICATION_ID = 0x51B0C5
CHECK_LIMIT = 256 * 1024 * 1024
"""Bytes up to which the whole structure is checked at start; larger files are checked by `signalbox
doctor`."""

ADVICE = "restore the data directory from a backup; `signalbox doctor` shows details"

_OUTSIDE = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "the data directory is read-only",
    sqlite3.SQLITE_IOERR: "the disk reports an input/output error",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
    sqlite3.SQLITE_PERM: "permission is denied",
    sqlite3.SQLITE_AUTH: "permission is denied",
    sqlite3.SQLITE_BUSY: "another program holds the file",
    sqlite3.SQLITE_LOCKED: "another program holds the file",
    sqlite3.SQLITE_NOMEM: "memory is exhausted",
    sqlite3.SQLITE_NOLFS: "the file system cannot hold a file this large",
}

_OF_REQUEST = frozenset(
    {sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE, sqlite3.SQLITE_MISUSE}
)

Synchronous = Literal["FULL", "NORMAL"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of database: `tables` is the SQL that creates its `first_version`, each of `migrations` the
    SQL that creates the next version. Neither changes after a release."""

    file: str
    first_version: int
    tables: str
    synchronous: Synchronous
    migrations: tuple[str, ...] = ()

    @property
    def version(self) -> int:
        return self.first_version + len(self.migrations)


class LaterVersion(LogError):
    """A later release wrote the database, with tables that this release does not support."""


def explained(error: sqlite3.Error, path: Path) -> LogError:
    """The error of the port for an error of SQLite: LogUnavailable (wait) or LogDamaged (repair)."""
    code = getattr(error, "sqlite_errorcode", None)
    name = getattr(error, "sqlite_errorname", "")
    reason = _OUTSIDE.get(code & 0xFF) if code is not None else None
    if reason is not None:
        return LogUnavailable(f"{path}: {reason} ({name})", reason)
    return damaged(path, f"{error}{f' ({name})' if name else ''}")


def is_of_request(error: sqlite3.Error) -> bool:
    """Whether the request caused the error. Python's module raises such errors without a code."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is None or code & 0xFF in _OF_REQUEST


def damaged(path: Path, what: str) -> LogDamaged:
    return LogDamaged(f"{path} is damaged: {what}. To go on, {ADVICE}", what)


WRITER_CACHE, READER_CACHE = 8_000, 2_000
"""KiB of pages that a connection keeps in the memory of the process; others are in that of the system."""


def connect(kind: Kind, path: Path, *, write: bool) -> sqlite3.Connection:
    """A connection in autocommit mode to a file that exists. Raises sqlite3.Error.

    It may be used from any thread, by one at a time.
    """
    mode = "rw" if write else "ro"
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        timeout=5.0,
    )
    try:
        db.execute(f"PRAGMA synchronous={kind.synchronous}")
        db.execute(f"PRAGMA cache_size=-{WRITER_CACHE if write else READER_CACHE}")
        if write:
            db.execute("PRAGMA wal_autocheckpoint=1000")
            db.execute("PRAGMA journal_size_limit=67108864")
    except BaseException:
        db.close()
        raise
    return db


def make_directory(directory: Path) -> None:
    """Creates `directory` with access for its owner only. Raises LogUnavailable."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if directory.stat().st_mode & 0o077 and not any(directory.iterdir()):
            directory.chmod(0o700)
    except OSError as error:
        raise LogUnavailable(f"{directory}: {error.strerror}") from error


def make_private(path: Path) -> None:
    """Creates a missing database as an empty file, and restricts its access to the owner. Raises OSError.

    SQLite gives its journal the mode of the file. An existing file is not opened: closing it would drop the
    locks that other connections of this process have on it.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        for file in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
            if file.exists() and file.stat().st_mode & 0o077:
                file.chmod(0o600)


def prepare(
    kind: Kind,
    directory: Path,
    *,
    check: Callable[[sqlite3.Connection, Path], None] | None = None,
    again: bool = False,
) -> Path:
    """Creates the database if the directory never had it, or with `again`; else checks that it is sound, and
    migrates it if it is of an earlier version.

    `check`: an additional check of the kind's rows. The caller holds the directory's lock, and has no
    connection to the file. Returns the file. Raises LogUnavailable, LogDamaged, LaterVersion.
    """
    path = directory / kind.file
    try:
        if not path.exists():
            if not again:
                _require_never_held(kind, directory)
            _create(kind, path)
        _remember(kind, directory)
        # Before SQLite opens it: closing a connection removes the journal, and so the evidence.
        fault = acknowledged_lost(kind, path)
        if fault is not None:
            raise damaged(path, fault)
        db = connect(kind, path, write=True)
        try:
            _sound(kind, db, path)
            _migrate(kind, db)
            if check is not None:
                check(db, path)
        finally:
            db.close()
    except sqlite3.Error as error:
        raise explained(error, path) from error
    except OSError as error:
        raise LogUnavailable(f"{path}: {error.strerror}") from error
    return path


def existing_files(directory: Path) -> frozenset[str]:
    """The names of the databases that were created in this directory."""
    try:
        # ASCII; a damaged name equals no known one.
        return frozenset((directory / CONTENTS).read_text("ascii", "replace").split())
    except FileNotFoundError:
        return frozenset()


def _require_never_held(kind: Kind, directory: Path) -> None:
    if kind.file in existing_files(directory):
        raise damaged(directory / kind.file, "the file is missing, although this directory had it before")
    if journal_of(directory / kind.file).exists():
        raise damaged(directory / kind.file, "the file is missing, but its journal exists")


def _create(kind: Kind, path: Path) -> None:
    """Creates it under another name first, so that a file of the final name is always complete."""
    new = path.with_name(f"{path.name}.new")
    for leftover in (new, *(new.with_name(new.name + end) for end in ("-wal", "-shm", "-journal"))):
        leftover.unlink(missing_ok=True)
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(new, isolation_level=None)
    try:
        db.execute("PRAGMA synchronous=FULL")
        db.executescript(f"BEGIN; {'; '.join((kind.tables, *kind.migrations))}; COMMIT")
        db.execute(f"PRAGMA application_id={APPLICATION_ID}")
        db.execute(f"PRAGMA user_version={kind.version}")
        db.execute("PRAGMA journal_mode=WAL")
    finally:
        db.close()
    new.rename(path)
    sync_directory(path.parent)


def _remember(kind: Kind, directory: Path) -> None:
    names = existing_files(directory)
    if kind.file in names:
        return
    content = "".join(f"{name}\n" for name in sorted({*names, kind.file}) if name.isascii())
    write_whole(directory / CONTENTS, content.encode(), durable=True)
    sync_directory(directory)


def sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def identity_faults(kind: Kind, db: sqlite3.Connection) -> list[str]:
    """Faults that show a file of another program or version. Raises sqlite3.Error."""
    (application,) = db.execute("PRAGMA application_id").fetchone()
    version = stored_version(db)
    (mode,) = db.execute("PRAGMA journal_mode").fetchone()
    if application != APPLICATION_ID:
        return ["it is empty or belongs to another program"]
    if not kind.first_version <= version <= kind.version:
        return [f"its tables have version {version}, this program supports version {kind.version}"]
    return [] if mode == "wal" else [f"its journal mode is {mode}, not wal"]


def structure_faults(db: sqlite3.Connection, pragma: Literal["quick_check", "integrity_check"]) -> list[str]:
    """The faults that SQLite's own check finds. Raises sqlite3.Error."""
    return [text for (text,) in db.execute(f"PRAGMA {pragma}(10)") if text != "ok"]


def acknowledged_lost(kind: Kind, path: Path) -> str | None:
    """See `journal.journal_fault`. None for kinds whose transactions are not synced one by one."""
    return journal_fault(journal_of(path)) if kind.synchronous == "FULL" else None


def journal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def size_fault(db: sqlite3.Connection, path: Path) -> str | None:
    """The fault of a file that is shorter than its header states. Valid only if its journal is written
    back."""
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    (page_size,) = db.execute("PRAGMA page_size").fetchone()
    # stat, not open: closing any descriptor of the file would drop SQLite's POSIX locks on it.
    size = path.stat().st_size
    if size < pages * page_size:
        return f"the file has {size} bytes of {pages * page_size}: it was truncated"
    return None


def stored_version(db: sqlite3.Connection) -> int:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return version


def _migrate(kind: Kind, db: sqlite3.Connection) -> None:
    """Brings the tables to the version of `kind`, each migration in one transaction."""
    first = stored_version(db) - kind.first_version
    for version, migration in enumerate(kind.migrations[first:], stored_version(db) + 1):
        db.executescript(f"BEGIN; {migration}; PRAGMA user_version={version}; COMMIT")


def _sound(kind: Kind, db: sqlite3.Connection, path: Path) -> None:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    if application == APPLICATION_ID and (version := stored_version(db)) > kind.version:
        raise LaterVersion(
            f"{path} has tables of version {version}, this release supports versions up to {kind.version}: "
            "start the release that wrote it, or a later one"
        )
    faults = identity_faults(kind, db)
    if not faults:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        fault = size_fault(db, path)
        if fault is not None:
            faults = [fault]
        elif path.stat().st_size <= CHECK_LIMIT:
            faults = structure_faults(db, "quick_check")
    if faults:
        raise damaged(path, faults[0])
