"""A data directory of a version that kept less of what gateways report."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Column, Index, MetaData, String, Table

from projections.deliveries.model import Deliveries
from projections.operations import Operations
from projections.queries import ReadModels
from projections.read_transactions import NotReady
from projections.resources.model import Resources
from projections.store import Store
from streams.log import Record
from streams.projection.generation_builder import GenerationBuilder
from streams.projection.writer import Writer
from tests.projections.events import delivery, node, placed
from tests.projections.stores import sqlite_store
from tests.streams.batches import batch


class Earlier(Deliveries):
    """Tables of another form, by the same names."""

    version = 1

    def metadata(self, prefix: str) -> MetaData:
        metadata = MetaData()
        Table(f"{prefix}_nodes", metadata, Column("organization", String, primary_key=True))
        return metadata

    def indexes(self, prefix: str) -> Sequence[Index]:
        return []


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with sqlite_store(tmp_path) as store:
        yield store


async def test_queries_use_it_after_its_rebuild_and_not_before(store: Store, ask: ReadModels):
    Writer(store, [Resources(), Operations(), Earlier()], 1).open()
    with pytest.raises(NotReady):
        await ask.nodes("acme", "local")

    building = GenerationBuilder(store, Deliveries(), 1)
    assert building.begin()
    reports = [node("n1", True, 1), delivery("d1", "acknowledged", 2, node="n1", api="", revision=0)]
    building.take(0, batch([Record("status", 0, p.position, p.envelope) for p in placed(*reports)])[0])
    building.index()
    assert building.swap()
    building.end()

    assert [n["node"] for n in await ask.nodes("acme", "local")] == ["n1"]
