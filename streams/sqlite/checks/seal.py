"""The seal: size and checksum of databases that were closed in order, to detect any later damage.

SQLite only detects damage to the structure of a file. The seal is removed before anything is written, so
after a crash there is none, and it proves nothing.
"""

import logging
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import orjson

from streams.sqlite.database import CHECK_LIMIT, journal_of, sync_directory
from streams.whole_file import write_whole

SEAL = "sealed"
BLOCK = 1 << 20

logger = logging.getLogger("signalbox")


def seal(directory: Path, files: Iterable[str]) -> None:
    """Stores size and checksum of those files that are closed and not larger than CHECK_LIMIT.

    Raises OSError.
    """
    sealed: dict[str, list[int]] = {}
    for file in files:
        path = directory / file
        if path.exists() and not _journaled(path) and path.stat().st_size <= CHECK_LIMIT:
            sealed[file] = [path.stat().st_size, _checksum(path)]
    content = orjson.dumps(sealed)
    write_whole(directory / SEAL, b"%08x\n%b\n" % (zlib.crc32(content), content), durable=True)
    sync_directory(directory)


def compared(directory: Path) -> tuple[frozenset[str], dict[str, str]]:
    """The sealed files that are unchanged, and the changed ones with the difference. Raises OSError."""
    found: dict[str, str] = {}
    intact: set[str] = set()
    for file, (size, checksum) in _sealed(directory).items():
        path = directory / file
        # With a journal, the file was written to since; it is checked when it is opened.
        if not path.exists() or _journaled(path):
            continue
        now = path.stat().st_size
        if now != size:
            found[file] = f"it has {now} bytes, and had {size} when Signalbox stopped"
        elif _checksum(path) != checksum:
            found[file] = "its content has changed since Signalbox stopped"
        else:
            intact.add(file)
    return frozenset(intact), found


def unseal(directory: Path) -> None:
    """Removes the seal, before the files are written to. Raises OSError."""
    with suppress(FileNotFoundError):
        (directory / SEAL).unlink()
        sync_directory(directory)


def _sealed(directory: Path) -> dict[str, tuple[int, int]]:
    try:
        head, _, content = (directory / SEAL).read_bytes().rstrip(b"\n").partition(b"\n")
        if int(head, 16) != zlib.crc32(content):
            raise ValueError("its checksum is wrong")
        return {str(file): (int(size), int(sum)) for file, (size, sum) in orjson.loads(content).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        # Then it proves nothing, and the checks as after a crash apply.
        logger.warning("%s cannot be read and proves nothing: %s", directory / SEAL, error)
        return {}


def _journaled(path: Path) -> bool:
    journal = journal_of(path)
    return journal.exists() and journal.stat().st_size > 0


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            checksum = zlib.crc32(block, checksum)
    return checksum
