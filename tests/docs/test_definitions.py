"""docs/definitions.md: its tables are those of the models, its examples are read without findings."""

import re
from typing import Any

import pytest
import yaml

from definitions import openapi
from definitions.reading import FORMS, read
from definitions.reference import PAGE, SPECS, main, rendered
from definitions.wso2 import oldest, rest_api
from gateways.model import Policy
from schemas.aggregates.api import ApiSpec
from xds.translate.policies import POLICIES, contributions_of

TEXT = PAGE.read_text("utf-8")
EXAMPLES: list[str] = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
DOCUMENTS = [example for example in EXAMPLES if not example.startswith("policies:")]
LISTS: list[dict[str, Any]] = [yaml.safe_load(e) for e in EXAMPLES if e.startswith("policies:")]


def test_the_tables_are_those_of_the_models() -> None:
    assert main([]) == 0, "run: .venv/bin/python -m definitions.reference --write"


def test_an_edited_table_is_out_of_date() -> None:
    edited = TEXT.replace("| `context` |", "| `path` |")
    assert edited != TEXT
    assert rendered(edited) == TEXT


def test_a_kind_without_a_table_is_an_error() -> None:
    with pytest.raises(ValueError, match="Gateway"):
        rendered(TEXT.replace("<!-- fields Gateway -->", ""))


@pytest.mark.parametrize("kind", SPECS)
def test_every_field_has_a_text(kind: str) -> None:
    (block,) = re.findall(rf"<!-- fields {kind} -->(.*?)<!-- end -->", TEXT, re.DOTALL)
    assert [row for row in block.splitlines() if re.search(r"\|  ?\|$", row) and "field of" not in row] == []


@pytest.mark.parametrize("example", DOCUMENTS)
def test_every_example_is_read_without_findings(example: str) -> None:
    reading = read(example.encode(), "example.yaml")
    assert reading.findings == ()
    assert len(reading.definitions) == 1


def test_all_examples_can_be_deployed_to_one_gateway() -> None:
    read_from = [read(example.encode()).definitions[0] for example in DOCUMENTS]
    contexts = {d.name: d.spec.context for d in read_from if isinstance(d.spec, ApiSpec)}
    assert len(contexts) > 2
    assert len(set(contexts.values())) == len(contexts)


def test_every_kind_and_form_has_an_example() -> None:
    read_from = [read(example.encode()).definitions[0] for example in DOCUMENTS]
    assert {d.kind for d in read_from} == set(SPECS)
    claimed = {form.TITLE for form in FORMS for e in DOCUMENTS if form.claims(yaml.safe_load(e))}
    assert claimed == {form.TITLE for form in FORMS}


def test_every_policy_has_an_example_that_envoy_gateways_take() -> None:
    policies = [policy for listed in LISTS for policy in listed["policies"]]
    assert {p["name"] for p in policies} == {kind.name for kind in POLICIES}
    assert contributions_of([Policy(p["name"], p["params"]) for p in policies])[1] == ()


@pytest.mark.parametrize("name", [openapi.EXTENSION, rest_api.GROUP, oldest.FORM])
def test_it_names(name: str) -> None:
    assert f"`{name}" in TEXT
