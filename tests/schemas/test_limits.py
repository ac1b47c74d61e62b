"""Every command is bounded, its bounds are documented, and events that are larger stay readable."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.aggregates.api import ApiPublished, ApiSpec, PublishApi
from schemas.catalog import COMMANDS
from schemas.codecs.examples import example
from schemas.limits import MOST_HOSTS, MOST_PLANS
from schemas.message import Command


def unbounded(schema: dict[str, Any], definitions: dict[str, Any], place: str) -> Iterator[str]:
    """The places of lists, mappings and strings without a limit."""
    if "$ref" in schema:
        return
    for option in schema.get("anyOf", ()):
        yield from unbounded(option, definitions, place)
    kind = schema.get("type")
    if kind == "array":
        if "maxItems" not in schema:
            yield place
        yield from unbounded(schema["items"], definitions, f"{place}[]")
    elif kind == "string":
        fixed = schema.get("pattern", "").endswith("{64}$")
        if not fixed and not {"maxLength", "enum", "const"} & schema.keys():
            yield place
    elif kind == "object" and "properties" not in schema:
        if "maxProperties" not in schema:
            yield place
        values: Any = schema.get("additionalProperties")
        if isinstance(values, dict):
            yield from unbounded(values, definitions, f"{place}{{}}")
    for name, field in schema.get("properties", {}).items():
        yield from unbounded(field, definitions, f"{place}/{name}")


@pytest.mark.parametrize("model", COMMANDS.values(), ids=list(COMMANDS))
def test_every_list_mapping_and_text_of_a_command_has_a_documented_limit(model: type[Command]) -> None:
    schema = model.model_json_schema()
    definitions: dict[str, Any] = schema.get("$defs", {})
    models = {"": schema, **definitions}
    assert [p for name, of in models.items() for p in unbounded(of, definitions, name)] == []


def with_hosts(count: int) -> dict[str, Any]:
    data = example(PublishApi).data()
    hosts = [f"h{n}.example.com" for n in range(count)]
    return {**data, "spec": {**data["spec"], "hosts": hosts}}


def test_a_command_takes_a_list_up_to_its_limit() -> None:
    assert len(PublishApi.of(with_hosts(MOST_HOSTS)).spec.hosts) == MOST_HOSTS
    with pytest.raises(ValidationError, match=r"at most 100 items .* not 101"):
        PublishApi.of(with_hosts(MOST_HOSTS + 1))


def test_a_list_that_is_too_long_is_not_looked_into() -> None:
    with pytest.raises(ValidationError) as refused:
        ApiSpec.model_validate({**example(PublishApi).data()["spec"], "plans": [0] * (MOST_PLANS + 1)})
    assert refused.value.error_count() == 1


def test_an_event_larger_than_a_command_may_be_is_read() -> None:
    data = {**example(ApiPublished).data(), "spec": with_hosts(10 * MOST_HOSTS)["spec"]}
    assert len(ApiPublished.of(data).spec.hosts) == 10 * MOST_HOSTS
