"""Which characters text may have, and how the others are shown."""

from typing import Any, cast

import pytest
from pydantic import ValidationError

from schemas.aggregates.api import ApiPublished, PublishApi
from schemas.text import fault_in, faults, visible
from tests.commands.shop import publish, published

NOWHERE = ["\0", "\x07", "\x1b", "\x7f", "\x85", "\x9f", "\u202e", "\u2066", "\ud800", "\udfff", "\r"]
IN_SEVERAL_LINES = ["\n", "\r\n", "\t", "\u2028"]
EVERYWHERE = ["", "é", "\u200f", "\u00a0", "訂單", "\U0001f680", "\\u0000", "e\u0301"]


@pytest.mark.parametrize("text", NOWHERE)
def test_characters_that_no_text_contains(text: str):
    assert fault_in(f"a{text}b") is not None
    assert fault_in(f"a{text}b", multiline=True) is not None


@pytest.mark.parametrize("text", IN_SEVERAL_LINES)
def test_characters_that_only_text_of_several_lines_contains(text: str):
    assert fault_in(f"a{text}b") is not None
    assert fault_in(f"a{text}b", multiline=True) is None


@pytest.mark.parametrize("text", EVERYWHERE)
def test_characters_that_any_text_contains(text: str):
    assert fault_in(f"a{text}b") is None
    assert visible(text) == text


def changed(**fields: Any) -> dict[str, Any]:
    data = publish().data()
    return data | {"spec": data["spec"] | fields}


@pytest.mark.parametrize("bad", NOWHERE)
@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"display_name": "a%"}, ("spec", "display_name")),
        ({"description": "a%"}, ("spec", "description")),
        ({"labels": {"team": "a%"}}, ("spec", "labels", "team")),
        ({"annotations": {"a": "b", "c": "a%"}}, ("spec", "annotations", "c")),
        ({"plans": ["gold", "a%"]}, ("spec", "plans", 1)),
        (
            {"policies": [{"name": "p", "params": {"deep": [{"er": "a%"}]}}]},
            ("spec", "policies", 0, "params", "deep", 0, "er"),
        ),
        ({"unknown": "a%"}, ("spec", "unknown")),
    ],
)
def test_a_command_names_every_place(bad: str, fields: dict[str, Any], place: tuple[str | int, ...]):
    with pytest.raises(ValidationError) as refused:
        PublishApi.of(changed(**_filled(fields, bad)))
    assert [(e["type"], e["loc"]) for e in refused.value.errors()] == [("unreadable_text", place)]


def _filled(value: Any, bad: str) -> Any:
    if isinstance(value, str):
        return value.replace("%", bad)
    if isinstance(value, dict):
        return {k: _filled(v, bad) for k, v in cast("dict[str, Any]", value).items()}
    return [_filled(v, bad) for v in cast("list[Any]", value)] if isinstance(value, list) else value


def test_a_name_of_a_field_is_text_too():
    (found,) = faults({"labels": {"a\0b": "c"}})
    assert found == (
        ("labels", "a\\x00b"),
        "a\0b",
        "of the name contains the control character U+0000 (character 2)",
    )


def test_lines_may_break_where_text_has_several():
    assert not list(faults({"description": "a\nb", "annotations": {"a": "b\r\nc"}, "condition": "\t"}))
    assert [place for place, _, _ in faults({"display_name": "a\nb", "annotations": {"a\n": ""}})] == [
        ("display_name",),
        ("annotations", "a\\n"),
    ]


def test_data_nested_without_end_is_walked():
    deep: Any = "\0"
    for _ in range(5_000):
        deep = [deep]
    assert len(list(faults(deep))) == 1


def test_events_of_older_versions_stay_readable():
    data = published().data()
    data["spec"]["display_name"] = "a\0b\u202e"
    assert ApiPublished.of(data).spec.display_name == "a\0b\u202e"


def test_an_invisible_character_is_shown_as_an_escape():
    assert visible("a\0\n\x1b[31m\u202e\ud800é") == "a\\x00\\n\\x1b[31m\\u202e\\ud800é"
