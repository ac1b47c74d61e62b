"""Files that can be computed again: a damaged one is renamed and created again."""

import logging
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from streams.log import LogUnavailable
from streams.sqlite.database import CHECK_LIMIT, explained, journal_of, structure_faults

JOURNALS = ("-wal", "-shm")

logger = logging.getLogger("signalbox")


def set_aside(path: Path, reason: str) -> None:
    """Renames a database and its journals to `<name>.damaged-<time>`, and logs it.

    No connection to it may be open. Raises LogUnavailable.
    """
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    kept = path.with_name(f"{path.name}.damaged-{now}")
    renamed = ""
    try:
        for end in ("", *JOURNALS):
            file = path.with_name(path.name + end)
            if file.exists():
                file.rename(kept.with_name(kept.name + end))
                renamed = f"renamed to {kept.name} and "
    except OSError as error:
        raise LogUnavailable(f"{path}: it cannot be used ({reason}), nor be renamed: {error}") from error
    logger.warning("%s cannot be used (%s): it is %scomputed again", path, reason, renamed)


def computed_fault(path: Path) -> str | None:
    """Why a database is unusable by SQLite's own checks; None when it is sound or missing.

    The caller holds the directory's lock, and has no connection to the file. Raises LogUnavailable.
    """
    if not path.exists():
        return "the file is missing, but its journal exists" if journal_of(path).exists() else None
    size = path.stat().st_size
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            pragma = "integrity_check" if size <= CHECK_LIMIT else "quick_check"
            faults = structure_faults(db, pragma)
    except sqlite3.Error as error:
        meaning = explained(error, path)
        if isinstance(meaning, LogUnavailable):
            raise meaning from error
        return str(error)
    return faults[0] if faults else None
