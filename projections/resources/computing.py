"""Computes the rows of resources from the versions that it remembers, without the tables where it can."""

from collections.abc import Iterable, Sequence

import orjson
from sqlalchemy import Engine

from projections.databases.port import Values
from projections.readmodel import Recorded
from projections.resources.tables import tables
from projections.resources.versions import Version, events_by_aggregate, fold_batch
from projections.resources.writing import AggregateRows, current, rows_of
from schemas.catalog import BY_NAME
from schemas.envelope import QualifiedName

KEPT_BYTES = 48 << 20
"""Estimated memory of the remembered versions."""
_FRAME = 600
"""Bytes of a version without its document."""

ComputedRows = list[tuple[str, AggregateRows]]
"""By the name of the aggregate."""


class VersionsComputation:
    """`projections.readmodel.Computation`: remembers the current versions that were used last, as rows, which
    take a third of the memory."""

    def __init__(self, prefix: str, reader: Engine, *, empty: bool) -> None:
        self._prefix = prefix
        self._reader = reader
        self._whole = empty
        """Whether every current version is remembered."""
        self._kept: dict[str, dict[QualifiedName, Values]] = {name: {} for name in BY_NAME}
        """By aggregate; the row that was used last comes last."""
        self._bytes = 0

    def rows(self, records: Sequence[Recorded], written: int) -> ComputedRows:
        found: ComputedRows = []
        for name, batch in events_by_aggregate(records).items():
            before = self._current(name, {task.key for task in batch})
            rows = rows_of(fold_batch(BY_NAME[name], before, batch))
            self._keep(name, rows[1])
            found.append((name, rows))
        self._forget(written)
        return found

    def _current(self, name: str, keys: Iterable[QualifiedName]) -> dict[QualifiedName, Version]:
        kept = self._kept[name]
        before: dict[QualifiedName, Version] = {}
        others: list[QualifiedName] = []
        for key in keys:
            row = kept.get(key)
            if row is None:
                others.append(key)
            else:
                before[key] = _version(row)
        if others and not self._whole:
            with self._reader.begin() as connection:
                before |= current(connection, tables(self._prefix).of[name], others)
        return before

    def _keep(self, name: str, rows: Iterable[Values]) -> None:
        kept = self._kept[name]
        for row in rows:
            if row[3] is None:  # it has no end
                key = row[:2]
                if (gone := kept.pop(key, None)) is not None:
                    self._bytes -= _size(gone)
                kept[key] = row
                self._bytes += _size(row)

    def _forget(self, written: int) -> None:
        """Forgets versions that the tables contain, of the aggregate with the most of them first."""
        while self._bytes > KEPT_BYTES:
            kept = max(self._kept.values(), key=len)
            key, row = next(iter(kept.items()))
            if row[2] > written:
                return
            del kept[key]
            self._bytes -= _size(row)
            self._whole = False


def _version(row: Values) -> Version:
    organization, name, begun, _, since, _, created, version, document, *entries = row
    fields = None if document is None else orjson.loads(document)
    return Version(organization, name, version, begun, since, created, fields, tuple(entries))


def _size(row: Values) -> int:
    return _FRAME + len(row[8] or "")
