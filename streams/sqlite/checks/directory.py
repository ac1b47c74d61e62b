"""The complete check of a data directory, without changing anything."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streams.decider.chain import fault
from streams.decider.head import ChainHead
from streams.documents import DocumentDamaged, StoredDocument, unpack
from streams.log import LogDamaged, Topic
from streams.sqlite.checks.ahead_of_log import READ_MODELS, beyond, computed_positions, other_log
from streams.sqlite.checks.soundness import (
    consumed_fault,
    ends_fault,
    source_log,
    stored_ends,
    stored_identity,
    stored_partitions,
    stored_topics,
)
from streams.sqlite.config import CONFIG, entry_of_row, load_statement
from streams.sqlite.database import (
    Kind,
    acknowledged_lost,
    connect,
    existing_files,
    identity_faults,
    journal_of,
    size_fault,
    structure_faults,
)
from streams.sqlite.documents import DOCUMENTS
from streams.sqlite.reader import decoded_but, skipped_keys
from streams.sqlite.schema import LOG, MAX_POSITION, POSITION_BITS, READ, key_of

BATCH = 1000

# The data of an event is the last value of a row (`streams.sqlite.rows`).
_NAMED = """
SELECT sha256, min(key) FROM (
    SELECT json_extract(CAST(rest AS TEXT), '$[12].document.sha256') AS sha256, key FROM events
    WHERE type LIKE 'io.signalbox.api.published.%' AND json_valid(CAST(rest AS TEXT))
) WHERE sha256 IS NOT NULL GROUP BY sha256
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault: the file, the location in it, and a description."""

    file: str
    place: str
    message: str


def check(directory: Path) -> list[Finding]:
    """All faults of the databases of a data directory; empty when they are sound.

    Reads only, and needs no lock: a process may use the directory meanwhile. Each database is read in one
    consistent snapshot. Takes some seconds per gigabyte.
    """
    findings: list[Finding] = []
    known = existing_files(directory)
    for kind, contents in _KINDS:
        path = directory / kind.file
        if path.exists():
            findings += _database(kind, path, contents)
        elif kind.file in known:
            findings.append(Finding(kind.file, "", "the file is missing, although this directory had it"))
    if not findings:
        findings += _ahead_of_the_log(directory)
        findings += check_documents(directory)
    if not known and not findings and not (directory / LOG.file).exists():
        findings.append(Finding(LOG.file, "", f"{directory} holds no log"))
    return findings


def _ahead_of_the_log(directory: Path) -> Iterator[Finding]:
    """Files computed from records that the log does not have: the log was truncated, or is an older copy."""
    log = directory / LOG.file
    if not log.exists():
        return
    with closing(connect(LOG, log, write=False)) as db:
        source = source_log(log, stored_identity(db) or 0)
        # The ends are read last: records appended meanwhile do no harm.
        computed = list(computed_positions(directory, source))
        fault = beyond(stored_ends(db), computed)
    if fault is not None:
        yield Finding(LOG.file, "", fault)
    if (other := other_log(directory, source)) is not None:
        yield Finding(
            READ_MODELS, "", f"it was computed from another log: {other}; this log is {source.name}"
        )


def check_documents(directory: Path) -> Iterator[Finding]:
    """Documents that events refer to and that are missing."""
    log, documents = directory / LOG.file, directory / DOCUMENTS.file
    if not log.exists() or not documents.exists():
        return
    with closing(connect(LOG, log, write=False)) as db:
        named = dict(db.execute(_NAMED).fetchall())
    with closing(connect(DOCUMENTS, documents, write=False)) as db:
        there = {sha256 for (sha256,) in db.execute("SELECT sha256 FROM documents")}
    for sha256, key in sorted(named.items(), key=lambda item: item[1]):
        if sha256 not in there:
            place = f"events/{key >> POSITION_BITS} position {key & MAX_POSITION}"
            yield Finding(DOCUMENTS.file, sha256, f"the document of the event at {place} is missing")


def _database(
    kind: Kind, path: Path, contents: Callable[[sqlite3.Connection, Path], Iterator[Finding]]
) -> list[Finding]:
    findings: list[Finding] = []
    lost = acknowledged_lost(kind, path)
    # Twice, because concurrent writes can make a sound journal look torn for a moment.
    if lost is not None and lost == acknowledged_lost(kind, path):
        findings.append(Finding(kind.file, "", lost))
    try:
        db = connect(kind, path, write=False)
        try:
            strange = identity_faults(kind, db)
            if strange:
                return [*findings, *(Finding(kind.file, "", text) for text in strange)]
            db.execute("BEGIN")
            findings += [Finding(kind.file, "", text) for text in structure_faults(db, "integrity_check")]
            cut = _cut_short(db, path)
            if cut is not None:
                findings.append(Finding(kind.file, "", cut))
            findings += contents(db, path)
        finally:
            db.close()
    except sqlite3.Error as error:
        findings.append(Finding(kind.file, "", f"{error} ({getattr(error, 'sqlite_errorname', '')})"))
    return findings


def _log(db: sqlite3.Connection, path: Path) -> Iterator[Finding]:
    partitions = stored_partitions(db)
    if partitions is None:
        yield Finding(LOG.file, "settings", "its partition count is missing")
        return
    for reason in (ends_fault(db, partitions), consumed_fault(db)):
        if reason is not None:
            yield Finding(LOG.file, "", reason)
    for topic in stored_topics(db):
        for partition in range(partitions):
            reason = _records_fault(db, path, topic, partition)
            if reason is not None:
                yield Finding(LOG.file, f"{topic}/{partition}", reason)


def _records_fault(db: sqlite3.Connection, path: Path, topic: Topic, partition: int) -> str | None:
    """The fault of the first record that is missing, unreadable, or breaks the hash chain."""
    last, head = 0, ChainHead()
    skipped = skipped_keys(db)
    while True:
        rows = db.execute(
            READ[topic], (key_of(partition, last), key_of(partition, MAX_POSITION), BATCH)
        ).fetchall()
        if not rows:
            return None
        try:
            records = decoded_but(path, topic, rows, skipped)
        except LogDamaged as error:
            return str(error)
        for record in records:
            if record.position != last + 1:
                return f"there is no record at position {last + 1}"
            last = record.position
            if topic == "events" and record.fault is None:
                reason = fault(head, record.envelope)
                if reason is not None:
                    return f"the event at position {last}: {reason}"
                head = head.after(record.envelope, last)


def _config(db: sqlite3.Connection, path: Path) -> Iterator[Finding]:
    for row in _in_batches(db, load_statement(None, removals=True)):
        try:
            entry_of_row(path, row)
        except LogDamaged as error:
            yield Finding(CONFIG.file, " ".join(row[1:5]), str(error))


def _documents(db: sqlite3.Connection, path: Path) -> Iterator[Finding]:
    rows = db.execute("SELECT sha256, media_type, packed, content FROM documents")
    for sha256, media_type, packed, content in rows:
        try:
            unpack(StoredDocument(sha256, media_type, bool(packed), content), str(path))
        except DocumentDamaged as error:
            yield Finding(DOCUMENTS.file, sha256, str(error))


def _in_batches(db: sqlite3.Connection, statement: str) -> Iterator[Any]:
    after = 0
    while rows := db.execute(statement, (after, BATCH)).fetchall():
        yield from rows
        after = rows[-1][0]


def _cut_short(db: sqlite3.Connection, path: Path) -> str | None:
    journal = journal_of(path)
    written_back = not journal.exists() or journal.stat().st_size == 0
    return size_fault(db, path) if written_back else None


_KINDS: tuple[tuple[Kind, Callable[[sqlite3.Connection, Path], Iterator[Finding]]], ...] = (
    (LOG, _log),
    (CONFIG, _config),
    (DOCUMENTS, _documents),
)
