"""Avro says what the models say, for every message there is and every version there was."""

import contextlib
import copy
import io
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import fastavro
import fastavro.utils
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from schemas.aggregates.api import ApiPublished
from schemas.aggregates.deployment import DeploymentStarted, StartDeployment
from schemas.catalog import MESSAGES
from schemas.codecs import avro
from schemas.codecs.avro import (
    Edited,
    Incompatible,
    NeverPublished,
    decode,
    edited,
    encode,
    problems,
    publish,
    published,
    schema,
)
from schemas.codecs.avro_types import Inexpressible, record
from schemas.codecs.binary import Undecodable
from schemas.codecs.canonical import sha256_hex
from schemas.codecs.examples import example
from schemas.message import Event, Message, Name, Value
from schemas.upcasting import UPCASTERS
from tests.schemas.models import models
from tests.support.laws import SLOW, examples

EVERY = pytest.mark.parametrize("model", MESSAGES.values(), ids=list(MESSAGES))
PUBLISHED = encode(example(ApiPublished))
VERSIONS = [(type_, n) for type_, versions in published().items() for n in versions]


@EVERY
def test_encoded_data_is_decoded_to_the_same(model: type[Message]) -> None:
    @examples(15, SLOW)
    @given(models(model))
    def law(message: Message) -> None:
        assert decode(type(message), encode(message)) == message

    law()


@EVERY
def test_the_committed_schema_is_the_generated_one(model: type[Message]) -> None:
    """If not: `python -m schemas.codecs.avro --write`."""
    versions = published()[model.type()]
    assert versions[max(versions)] == schema(model)


@EVERY
def test_versions_are_counted_from_one(model: type[Message]) -> None:
    versions = list(published()[model.type()])
    assert versions == list(range(1, len(versions) + 1))


def test_every_published_type_can_still_be_read() -> None:
    assert set(published()) <= set(MESSAGES) | set(UPCASTERS)


@pytest.mark.parametrize(("type_", "number"), VERSIONS)
def test_every_published_version_and_the_current_one_read_each_other(type_: str, number: int) -> None:
    old, model = published()[type_][number], MESSAGES[type_]
    assert problems(schema(model), {number: old}) == []
    _resolve(fastavro.utils.generate_one(old), old, schema(model))
    _resolve(_datum(model), schema(model), old)


@pytest.mark.parametrize(("type_", "number"), VERSIONS)
def test_a_break_of_any_published_version_is_detected(type_: str, number: int) -> None:
    old = published()[type_][number]
    for field in old["fields"]:
        name, place = field["name"], f"/{field['name']}"
        others = [f for f in old["fields"] if f["name"] != name]
        retyped = {**old, "fields": [*others, {"name": name, "type": {"type": "array", "items": "null"}}]}
        assert any(p.startswith(place) for p in problems(retyped, {number: old}))
        if "default" not in field:
            gone = {**old, "fields": others}
            [reported] = problems(gone, {number: old})
            assert reported == f"{place}: is not written and has no default (being read by version {number})"
    grown = {**old, "fields": [*old["fields"], {"name": "price", "type": "long"}]}
    assert problems(grown, {number: old}) == [
        f"/price: is not written and has no default (reading version {number})"
    ]
    renamed = {**old, "name": old["name"] + "Anew"}
    assert len(problems(renamed, {number: old})) == 2


def test_a_dataschema_leads_to_the_schema_it_names() -> None:
    uri = avro.dataschema(DeploymentStarted)
    assert uri.startswith("urn:signalbox:schema:io.signalbox.deployment.started.v1:")
    assert avro.writer_schema(uri) == schema(DeploymentStarted)
    started = example(DeploymentStarted)
    assert decode(DeploymentStarted, encode(started), avro.writer_schema(uri)) == started
    with pytest.raises(
        NeverPublished, match=r"^needs version 999 of io\.signalbox\.deployment\.started\.v1; "
    ):
        avro.writer_schema("urn:signalbox:schema:io.signalbox.deployment.started.v1:999")
    for other in ("urn:signalbox:schema:com.shop.sold.v1:1", "schema", "https://shop.example/sold/1"):
        with pytest.raises(NeverPublished, match=f"^{other} was never published here$"):
            avro.writer_schema(other)


def test_a_name_left_out_stays_left_out() -> None:
    """Its default breaks the rule for names that are given."""
    command = StartDeployment(organization="acme", api="orders", gateway="local")
    assert decode(StartDeployment, encode(command)) == command


def test_bytes_that_are_something_else_are_refused() -> None:
    good = encode(example(DeploymentStarted))
    for bad in (b"", good[:-1], good + b"\0", b"\xff" * 40):
        with pytest.raises(Undecodable, match="DeploymentStarted"):
            decode(DeploymentStarted, bad)


def test_values_are_held_to_the_models_rules() -> None:
    datum = {**_datum(DeploymentStarted), "state": "sleeping"}
    with pytest.raises(ValidationError, match="state"):
        decode(DeploymentStarted, _written(datum, schema(DeploymentStarted)))


class Inner(Value):
    free: dict[str, Any] = Field(default_factory=dict)
    words: dict[str, str] = Field(default_factory=lambda: {"a": "b"})


class LampLit(Event):
    aggregate: ClassVar[str] = "lamp"
    verb: ClassVar[str] = "lit"

    colour: Literal["red", "green"] = "red"
    names: tuple[Name, ...] = ("a",)
    first: Inner
    second: Inner | None = None
    third: Inner = Inner()
    volume: Annotated[int, Field(ge=0)]
    level: float = 0.5
    note: str | None = "none yet"
    on: bool = True


def test_the_avro_schema_of_a_model() -> None:
    free = {"type": "string", "signalbox.json": True}
    inner = {
        "type": "record",
        "name": "io.signalbox.value.Inner",
        "fields": [
            {"name": "free", "type": free, "default": "{}"},
            {"name": "words", "type": {"type": "map", "values": "string"}, "default": {"a": "b"}},
        ],
    }
    again = "io.signalbox.value.Inner"
    assert schema(LampLit) == {
        "type": "record",
        "name": "io.signalbox.LampLit",
        "signalbox.type": "io.signalbox.lamp.lit.v1",
        "fields": [
            {"name": "organization", "type": "string"},
            {"name": "name", "type": "string"},
            {"name": "colour", "type": "string", "default": "red"},
            {"name": "names", "type": {"type": "array", "items": "string"}, "default": ["a"]},
            {"name": "first", "type": inner},
            {"name": "second", "type": ["null", again], "default": None},
            {"name": "third", "type": again, "default": {"free": "{}", "words": {"a": "b"}}},
            {"name": "volume", "type": "long"},
            {"name": "level", "type": "double", "default": 0.5},
            {"name": "note", "type": ["string", "null"], "default": "none yet"},
            {"name": "on", "type": "boolean", "default": True},
        ],
    }


@examples(100, SLOW)
@given(models(LampLit))
def test_every_kind_of_field_survives(message: LampLit) -> None:
    assert decode(LampLit, encode(message)) == message


def test_a_type_without_a_form_is_named_with_its_field() -> None:
    class Odd(Value):
        either: int | str

    with pytest.raises(Inexpressible, match=r"Odd\.either"):
        schema(Odd)


def _change(path: str, change: Any) -> dict[str, Any]:
    """The schema of LampLit with one field changed, added or (None) taken away."""
    changed = copy.deepcopy(schema(LampLit))
    fields = [f for f in changed["fields"] if f["name"] != path]
    changed["fields"] = [*fields, {"name": path, **change}] if change else fields
    return changed


def test_fields_with_defaults_may_come_and_go() -> None:
    assert problems(_change("extra", {"type": "long", "default": 0}), {1: schema(LampLit)}) == []
    assert problems(_change("level", None), {1: schema(LampLit)}) == []


@pytest.mark.parametrize(
    ("path", "change", "complaint"),
    [
        ("extra", {"type": "long"}, "/extra: is not written and has no default (reading version 1)"),
        ("volume", None, "/volume: is not written and has no default (being read by version 1)"),
        ("volume", {"type": "string"}, "/volume: long cannot be read as string (reading version 1)"),
        ("volume", {"type": "double"}, "/volume: double cannot be read as long (being read by version 1)"),
        ("names", {"type": {"type": "array", "items": "long"}}, "/names[]: long cannot be read as string"),
        ("note", {"type": "string", "default": ""}, "/note: null cannot be read as string"),
        ("first", {"type": {"type": "string"}}, "/first: record cannot be read as string"),
        ("second", {"type": ["null", "long"]}, "/second: io.signalbox.value.Inner is none of null, long"),
        ("colour", {"type": {"type": "string", "signalbox.json": True}}, "text and free JSON"),
    ],
)
def test_a_schema_broken_on_purpose_is_caught(path: str, change: Any, complaint: str) -> None:
    assert complaint in "; ".join(problems(_change(path, change), {1: schema(LampLit)}))


def test_a_changed_model_gets_a_new_version_and_a_broken_one_none(tmp_path: Path) -> None:
    type_ = "io.signalbox.lamp.lit.v1"

    class Named(Event):
        aggregate: ClassVar[str] = "lamp"
        verb: ClassVar[str] = "lit"

    class Shaded(Named):
        shade: str = ""

    class Priced(Named):
        price: int

    assert [p.name for p in publish({type_: Named}, tmp_path)] == [f"{type_}.1.avsc"]
    assert publish({type_: Named}, tmp_path) == []
    assert [p.name for p in publish({type_: Shaded}, tmp_path)] == [f"{type_}.2.avsc"]
    with pytest.raises(Incompatible, match=r"/price: is not written and has no default"):
        publish({type_: Priced}, tmp_path)
    assert sorted(p.name for p in tmp_path.glob("*.avsc")) == [f"{type_}.1.avsc", f"{type_}.2.avsc"]
    assert orjson.loads((tmp_path / f"{type_}.1.avsc").read_bytes()) == schema(Named)


def test_no_published_file_was_edited() -> None:
    """If one is new, `python -m schemas.codecs.avro --write` notes it. A change needs a new version."""
    assert edited() == []


@pytest.mark.parametrize("way", ["changed", "taken away", "added"])
def test_an_edited_published_file_is_reported_and_nothing_is_published_beside_it(
    tmp_path: Path, way: str
) -> None:
    publish(MESSAGES, tmp_path)
    assert edited(tmp_path) == []
    file = tmp_path / "io.signalbox.api.published.v1.1.avsc"
    if way == "changed":
        file.write_bytes(file.read_bytes().replace(b"revision", b"edition"))
    elif way == "taken away":
        file.unlink()
    else:
        file = file.with_name("io.signalbox.api.published.v1.2.avsc")
        file.write_bytes(file.with_name("io.signalbox.api.deleted.v1.1.avsc").read_bytes())
    assert edited(tmp_path) == [file.name]
    if way != "added":
        with pytest.raises(Edited, match=file.name):
            publish({LampLit.type(): LampLit}, tmp_path)
        assert not list(tmp_path.glob("*lamp*"))


def test_publishing_reports_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop = tmp_path / "published"
    assert avro.main(["--write"], shop) == 0
    assert sorted(capsys.readouterr().out.split()) == sorted(p.name for p in shop.glob("*.avsc"))
    assert avro.main([], shop) == 0
    assert "io.signalbox.api.published.v1 1" in capsys.readouterr().out.splitlines()
    broken = shop / "io.signalbox.api.published.v1.1.avsc"
    broken.write_bytes(broken.read_bytes().replace(b"revision", b"edition"))
    assert avro.main(["--write"], shop) == 1
    assert f"must not be changed or removed: {broken.name}" in capsys.readouterr().err
    digest = sha256_hex(broken.read_bytes())
    sums = (shop / "SHA256SUMS").read_text()
    old = next(line for line in sums.splitlines() if line.endswith(broken.name))
    (shop / "SHA256SUMS").write_text(sums.replace(old, f"{digest}  {broken.name}"))
    assert avro.main(["--write"], shop) == 1
    output = capsys.readouterr().err
    assert (
        "io.signalbox.api.published.v1 is incompatible with published versions and needs a new major"
        in output
    )
    assert "/edition: is not written and has no default (being read by version 1)" in output


def _datum(model: type[Message]) -> Any:
    return record(model).pack(example(model).model_dump(mode="json"))


def _written(datum: Any, writer: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, writer, datum)
    return out.getvalue()


def _resolve(datum: Any, writer: Any, reader: Any) -> None:
    """Fails when fastavro, an implementation of its own, cannot read it either."""
    fastavro.schemaless_reader(io.BytesIO(_written(datum, writer)), writer, reader)


@examples(500)
@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 255))
def test_any_bytes_are_decoded_or_refused(noise: bytes, at: int, byte: int) -> None:
    damaged = bytearray(PUBLISHED)
    damaged[at % len(damaged)] = byte
    for data in (noise, bytes(damaged)):
        with contextlib.suppress(Undecodable, ValidationError):
            assert decode(ApiPublished, data)
