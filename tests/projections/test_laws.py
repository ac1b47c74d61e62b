"""Laws: whatever the events and however they are batched, the rows are their fold, also as of then."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import MetaData, select

from projections.catalog import READ_MODELS
from projections.queries import ReadModels
from projections.resources.model import Resources
from projections.store import Generation, Store
from schemas.catalog import AGGREGATES, BY_NAME, EVENTS
from schemas.message import Message
from streams.log import Record
from streams.projection.generation_builder import GenerationBuilder
from streams.projection.writer import Writer
from tests.projections.events import (
    deleted,
    gateway,
    gateway_changed,
    gateway_removed,
    placed,
    project,
    project_deleted,
    published,
    specification,
    started,
    stopped,
    superseded,
)
from tests.projections.stores import postgres_store, sqlite_copy
from tests.streams.batches import batch
from tests.support.laws import SHARED_FIXTURE, examples

NAMES = st.sampled_from(["a", "b"])
EVENT = st.one_of(
    st.builds(
        lambda name, revision, context, organization: published(
            name, revision, spec=specification(context), organization=organization
        ),
        NAMES,
        st.integers(1, 3),
        st.sampled_from(["/x", "/y"]),
        st.sampled_from(["acme", "other"]),
    ),
    st.builds(deleted, NAMES),
    st.builds(project, NAMES, st.sampled_from(["", "Shop"])),
    st.builds(project_deleted, NAMES),
    st.builds(gateway, NAMES),
    st.builds(gateway_changed, NAMES, st.integers(8000, 8002)),
    st.builds(gateway_removed, NAMES),
    st.builds(started, NAMES, st.just(("a", "b"))),
    st.builds(superseded, NAMES, NAMES, st.sampled_from([(), ("b",)])),
    st.builds(stopped, NAMES),
)
HISTORY = st.lists(EVENT, max_size=25)

StoreMaker = Callable[[], AbstractContextManager[Store]]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def a_store(request: pytest.FixtureRequest) -> StoreMaker:
    """Makes an empty store, for each history one."""
    if request.param == "postgresql":
        server = request.getfixturevalue("empty_read_models")
        return lambda: postgres_store(server)
    return _in_a_file


@contextmanager
def _in_a_file() -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as directory, sqlite_copy(Path(directory)) as store:
        yield store


def records(history: Sequence[Message]) -> list[Record]:
    return [Record("events", 0, p.position, p.envelope) for p in placed(*history)]


def replayed(history: Sequence[Message]) -> dict[tuple[str, str, str], tuple[int, dict[str, Any]]]:
    """What the words of `Event.effect` say: fields laid over the document, or the end of it."""
    documents: dict[tuple[str, str, str], tuple[int, dict[str, Any] | None]] = {}
    for message in history:
        event = EVENTS[message.type()]
        key = (event.aggregate, message.organization, message.name)
        version, document = documents.get(key, (0, None))
        if event.effect == "end":
            documents[key] = (version + 1, None)
            continue
        laid = {**(document or {}), **message.model_dump(mode="json")}
        documents[key] = (
            version + 1,
            {f: v for f, v in laid.items() if f != "organization" and v is not None},
        )
    return {
        key: (version, _without_none(document))
        for key, (version, document) in documents.items()
        if document is not None
    }


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {f: _without_none(v) for f, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, list) else value


@examples(15, SHARED_FIXTURE)
@given(HISTORY, st.integers(1, 7))
async def test_the_rows_are_the_fold_now_and_as_of_every_position(
    a_store: StoreMaker, history: list[Message], size: int
):
    everything = records(history)
    with a_store() as store:
        writer = Writer(store, READ_MODELS, 1)
        writer.open()
        for i in range(0, len(everything), size):
            writer.apply({"events": batch(everything[i : i + size])})
        ask = ReadModels(store)
        try:
            for p in range(len(history) + 1):
                expected = replayed(history[:p])
                assert await shown(ask, p) == expected
            assert await shown(ask, None) == replayed(history)
        finally:
            ask.close()


class Advancing:
    """Read models that contain everything soon."""

    def keeps_up(self, *_: object) -> bool:
        return True

    async def wait_for(self, *_: object) -> None:
        return


@examples(15, SHARED_FIXTURE)
@given(HISTORY, st.integers(1, 4))
async def test_a_row_computed_from_events_is_the_projected_one(history: list[Message], size: int):
    """Of each resource in a batch that the projector has not written yet; or it is not computed."""
    everything = records(history)

    computed = 0
    with _in_a_file() as store:
        writer = Writer(store, READ_MODELS, 1)
        writer.open()
        read = ReadModels(store)
        ask = ReadModels(store, progress=Advancing())
        try:
            for i in range(0, len(everything), size):
                events = everything[i : i + size]
                of = {e.envelope.subject: EVENTS[e.envelope.type] for e in events}
                keys = {s: (BY_NAME[m.aggregate], s.split("/")[1], s.split("/")[3]) for s, m in of.items()}
                versions = {s: _version(everything[: i + size], s) for s in of}
                before = {
                    s: ask.get_decided(aggregate, organization, name, versions[s], events)
                    for s, (aggregate, organization, name) in keys.items()
                }
                assert not any(
                    ask.get_decided(aggregate, organization, name, versions[s] + 1, events)
                    for s, (aggregate, organization, name) in keys.items()
                )
                writer.apply({"events": batch(events)})
                for s, row in before.items():
                    assert row is None or row == await read.get(*keys[s])
                    computed += row is not None
        finally:
            read.close()
            ask.close()
    new = {e.envelope.subject for e in everything[:size] if EVENTS[e.envelope.type].effect != "end"}
    gone = {e.envelope.subject for e in everything[:size] if EVENTS[e.envelope.type].effect == "end"}
    assert computed >= len(new - gone)


def _version(events: Sequence[Record], subject: str) -> int:
    return sum(e.envelope.subject == subject for e in events)


@examples(15, SHARED_FIXTURE)
@given(HISTORY, st.integers(1, 7), st.integers(1, 7))
def test_rebuilt_tables_equal_the_live_ones(
    a_store: StoreMaker, history: list[Message], live: int, rebuilt: int
):
    everything = records(history)
    with a_store() as store:
        writer = Writer(store, READ_MODELS, 1)
        writer.open()
        for i in range(0, len(everything), live):
            writer.apply({"events": batch(everything[i : i + live])})
        building = GenerationBuilder(store, Resources(), 1)
        assert building.begin()
        for i in range(0, len(everything), rebuilt):
            building.take(0, batch(everything[i : i + rebuilt])[0])
        building.index()
        assert len(contents(store, building.progress.generation)) > len(AGGREGATES)
        assert contents(store, building.progress.generation) == contents(
            store, writer.progress["resources"].generation
        )
        assert building.swap()
        building.end()
        writer.reload()
        assert writer.progress["resources"].generation == building.progress.generation
        assert writer.progress["resources"].positions == {0: len(history)}


async def shown(ask: ReadModels, as_of: int | None) -> dict[tuple[str, str, str], tuple[int, dict[str, Any]]]:
    rows: dict[tuple[str, str, str], tuple[int, dict[str, Any]]] = {}
    for aggregate in AGGREGATES:
        if aggregate.top:
            continue
        for organization in ("acme", "other"):
            for row in (await ask.list(aggregate, organization, as_of=as_of)).rows:
                assert row == await ask.get(aggregate, organization, row.name, as_of)
                rows[aggregate.name, organization, row.name] = (row.version, row.document)
    return rows


def contents(store: Store, generation: Generation) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of a generation by table."""
    metadata = MetaData()
    with store.reader.begin() as connection:
        metadata.reflect(connection, only=lambda name, _: name.startswith(f"{generation.prefix}_"))
        return {
            t.name.removeprefix(generation.prefix): sorted(
                tuple(map(repr, row)) for row in connection.execute(select(t))
            )
            for t in metadata.sorted_tables
        }
