from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from projections.catalog import READ_MODELS
from projections.queries import ReadModels
from projections.store import Store
from schemas.message import Message
from streams.log import Record, Topic
from streams.projection.writer import Writer
from tests.projections.events import placed
from tests.projections.stores import postgres_store, sqlite_copy
from tests.streams.batches import batch


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "sqlite":
        opened = sqlite_copy(tmp_path)
    else:
        opened = postgres_store(request.getfixturevalue("empty_read_models"))
    with opened as store:
        yield store


@pytest.fixture
def writer(store: Store) -> Writer:
    writer = Writer(store, READ_MODELS, 1)
    writer.open()
    return writer


@pytest.fixture
async def ask(store: Store) -> AsyncIterator[ReadModels]:
    models = ReadModels(store)
    yield models
    models.close()


Happen = Callable[..., list[Record]]


@pytest.fixture
def happen(writer: Writer) -> Happen:
    """Projects messages at the next positions of a topic, all in one batch."""
    ends: dict[str, int] = {}

    def happen(*messages: Message, topic: Topic = "events") -> list[Record]:
        first = ends.get(topic, 0) + 1
        ends[topic] = first + len(messages) - 1
        records = [Record(topic, 0, p.position, p.envelope) for p in placed(*messages, first=first)]
        writer.apply({topic: batch(records)})
        return records

    return happen
