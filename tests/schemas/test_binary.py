"""The own Avro codec writes and reads what fastavro does, and gives back exactly what it was given."""

import io
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.catalog import MESSAGES
from schemas.codecs import avro
from schemas.codecs.binary import Undecodable, compiled
from schemas.message import Message
from tests.schemas.envelopes import json_objects
from tests.schemas.models import models
from tests.support.laws import SLOW, examples

SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "io.signalbox.LampCommandLight",
    "signalbox.type": "io.signalbox.lamp.command.light.v1",
    "fields": [
        {"name": "name", "type": "string", "default": ""},
        {"name": "count", "type": "long"},
        {"name": "level", "type": "double"},
        {"name": "on", "type": "boolean"},
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "mood", "type": ["string", "null"], "default": "calm"},
        {
            "name": "inner",
            "type": {
                "type": "record",
                "name": "io.signalbox.value.Inner",
                "fields": [{"name": "words", "type": {"type": "map", "values": "string"}}],
            },
        },
        {"name": "more", "type": {"type": "array", "items": "io.signalbox.value.Inner"}},
        {"name": "maybe", "type": {"type": "array", "items": ["null", "long"]}},
        {"name": "free", "type": {"type": "string", "signalbox.json": True}},
    ],
}
CODEC = compiled(SCHEMA)
LONG = st.integers(-(2**63), 2**63 - 1)
INNER = st.fixed_dictionaries({"words": st.dictionaries(st.text(), st.text(), max_size=3)})
LAMPS = st.fixed_dictionaries(
    {
        "count": LONG,
        "level": st.floats(allow_nan=False, allow_infinity=False),
        "on": st.booleans(),
        "mood": st.none() | st.text(),
        "inner": INNER,
        "more": st.lists(INNER, max_size=3),
        "maybe": st.lists(st.none() | LONG, max_size=3),
        "free": json_objects,
    },
    optional={"name": st.text(min_size=1), "note": st.text()},
)
LAMP = {
    "count": 1, "level": 0.5, "on": True, "mood": "calm", "inner": {"words": {}}, "more": [], "maybe": [],
    "free": {},
}  # fmt: skip


@given(LAMPS)
def test_every_kind_of_field_comes_back_the_same(lamp: dict[str, Any]) -> None:
    content = CODEC.pack(lamp)
    assert content is not None
    assert CODEC.unpack(content) == lamp


@pytest.mark.parametrize("model", MESSAGES.values(), ids=list(MESSAGES))
def test_the_bytes_are_those_fastavro_writes(model: type[Message]) -> None:
    @examples(10, SLOW)
    @given(models(model))
    def law(message: Message) -> None:
        content = avro.encode_data(avro.dataschema(type(message)), message.data())
        assert content == avro.encode(message)

    law()


def test_blocks_with_their_size_are_read() -> None:
    """As writers with small buffers cut arrays and maps (Avro 1.11 specification, "Arrays")."""
    plain = CODEC.pack({**LAMP, "maybe": [7, None]})
    assert plain is not None
    whole, in_blocks = (
        b"\x04" + b"\x02\x0e" + b"\x00" + b"\x00",
        b"\x01\x04\x02\x0e" + b"\x01\x02\x00" + b"\x00",
    )
    assert plain.count(whole) == 1
    cut = plain.replace(whole, in_blocks)
    assert CODEC.unpack(cut) == {**LAMP, "maybe": [7, None]}
    theirs: Any = fastavro.schemaless_reader(io.BytesIO(cut), SCHEMA, None)
    assert theirs["maybe"] == [7, None]


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""}, {"name": None}, {"count": 1.0}, {"count": True}, {"count": 2**63},
        {"count": -(2**63) - 1}, {"level": 1}, {"level": float("nan")}, {"level": float("inf")}, {"on": 1},
        {"note": None}, {"note": 1}, {"inner": None}, {"inner": {}}, {"inner": {"words": {}, "more": 1}},
        {"inner": {"words": {"a": 1}}}, {"more": {}}, {"more": [[]]}, {"maybe": ["1"]}, {"maybe": (1,)},
        {"extra": 1}, {"mood": "\ud800"}, {"free": {"a": 2**64}}, {"free": {1: "a"}},
    ],
)  # fmt: skip
def test_data_that_would_not_decode_to_the_same_is_not_written(change: dict[str, Any]) -> None:
    assert CODEC.pack(LAMP) is not None
    assert CODEC.pack({**LAMP, **change}) is None


@pytest.mark.parametrize("name", ["count", "level", "on", "mood", "inner", "more", "maybe", "free"])
def test_a_field_that_may_not_be_left_out_is_missed(name: str) -> None:
    assert CODEC.pack({n: v for n, v in LAMP.items() if n != name}) is None


def test_only_a_command_may_be_without_a_name() -> None:
    """Its id becomes the name; an empty name of anything else is what was written."""
    assert CODEC.pack({**LAMP, "name": ""}) is None
    output = compiled({**SCHEMA, "signalbox.type": "io.signalbox.lamp.lit.v1"})
    assert output.pack(LAMP) is None
    content = output.pack({**LAMP, "name": ""})
    assert content is not None
    assert output.unpack(content) == {**LAMP, "name": ""}


def test_numbers_over_64_bits_and_endless_lengths_are_refused() -> None:
    schema = {"type": "record", "name": "io.signalbox.One", "fields": [{"name": "n", "type": "long"}]}
    for content in (b"\xff" * 9 + b"\x7f", b"\xff" * 12 + b"\x01"):
        with pytest.raises(Undecodable, match="64 bits"):
            compiled(schema).unpack(content)
    schema["fields"] = [{"name": "n", "type": {"type": "array", "items": "string"}}]
    for content in (b"", b"\xfe\xff\xff\xff\x0f", b"\x02\xfe\xff\xff\xff\x0f", b"\x02\x01"):
        with pytest.raises(Undecodable):
            compiled(schema).unpack(content)


@examples(300)
@given(st.binary(max_size=60), st.integers(0, 100), st.integers(0, 255))
def test_any_bytes_are_read_or_refused(noise: bytes, at: int, byte: int) -> None:
    good = CODEC.pack({**LAMP, "more": [{"words": {"a": "b"}}], "maybe": [1, None], "free": {"a": [1]}})
    assert good is not None
    damaged = bytearray(good)
    damaged[at % len(good)] = byte
    for content in (noise, bytes(damaged)):
        try:
            data = CODEC.unpack(content)
        except Undecodable as error:
            assert str(error)
        else:
            assert CODEC.unpack(CODEC.pack(data) or b"") == data
