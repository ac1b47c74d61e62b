"""The read model of all aggregates; its code is the same for each of them."""

from collections.abc import Sequence
from operator import itemgetter

from sqlalchemy import Connection, Engine, Index, MetaData

from projections.readmodel import Recorded
from projections.resources.computing import ComputedRows, VersionsComputation
from projections.resources.tables import indexes, tables
from projections.resources.versions import events_by_aggregate, fold_batch
from projections.resources.writing import current, rows_of, write
from schemas.catalog import AGGREGATES, BY_NAME


class Resources:
    name = "resources"
    version = 1
    topic = "events"

    def metadata(self, prefix: str) -> MetaData:
        return tables(prefix).metadata

    def indexes(self, prefix: str) -> Sequence[Index]:
        of = tables(prefix).of
        return [index for a in AGGREGATES for index in indexes(of[a.name], a.listed_by)]

    def project(self, connection: Connection, prefix: str, records: Sequence[Recorded]) -> None:
        for name, batch in events_by_aggregate(records).items():
            aggregate, of = BY_NAME[name], tables(prefix).of[name]
            before = current(connection, of, {task.key for task in batch})
            write(connection, of, rows_of(fold_batch(aggregate, before, batch)))

    def computation(self, prefix: str, reader: Engine, *, empty: bool) -> VersionsComputation:
        return VersionsComputation(prefix, reader, empty=empty)

    def write(self, connection: Connection, prefix: str, rows: ComputedRows) -> None:
        for name, of_aggregate in rows:
            _, new, _, entries = of_aggregate
            for some in (new, *entries):
                some.sort(key=_KEY)  # in the order of the primary key more of them share a page
            write(connection, tables(prefix).of[name], of_aggregate)


_KEY = itemgetter(0, 1, 2)
"""Of a version or entry."""
