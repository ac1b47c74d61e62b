"""Every file in testdata/in and its parsed result in testdata/out. `--update` writes the results again."""

import json
from pathlib import Path
from typing import Any

import pytest

from definitions.reading import Definition, Reading, read
from schemas.aggregates.api import ApiSpec

DATA = Path(__file__).parent / "testdata"
INPUTS = sorted((DATA / "in").iterdir())


def as_json(reading: Reading) -> str:
    document = {
        "definitions": [_definition(d) for d in reading.definitions],
        "findings": [f"{f} {f.pointer}" for f in reading.findings],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _definition(definition: Definition) -> dict[str, Any]:
    spec = definition.spec
    values = spec.model_dump(mode="json", exclude_defaults=True) if isinstance(spec, ApiSpec) else dict(spec)
    return {
        "kind": definition.kind,
        "name": definition.name,
        "project": definition.project,
        "form": definition.form,
        "media_type": definition.media_type,
        "line": definition.line,
        "first_line": definition.content.decode().lstrip().split("\n", 1)[0],
        "deployed": definition.deployed,
        "spec": values,
    }


@pytest.mark.parametrize("path", INPUTS, ids=[p.name for p in INPUTS])
def test_a_definition_is_read_as_recorded(path: Path, request: pytest.FixtureRequest) -> None:
    got = as_json(read(path.read_bytes(), path.name))
    expected = DATA / "out" / f"{path.name}.json"
    if request.config.getoption("--update", default=False):
        expected.write_text(got, encoding="utf-8")
    assert got == expected.read_text(encoding="utf-8")


def test_every_output_has_an_input(request: pytest.FixtureRequest) -> None:
    outputs = {p.name: p for p in (DATA / "out").iterdir()}
    orphans = outputs.keys() - {f"{p.name}.json" for p in INPUTS}
    if request.config.getoption("--update", default=False):
        for orphan in orphans:
            outputs[orphan].unlink()
        return
    assert not orphans
