"""What holds for every specification and for every file."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from definitions.durations import duration, milliseconds
from definitions.reading import Reading, read
from definitions.source.documents import pieces
from definitions.source.finding import Finding
from definitions.source.limits import DEFAULT
from definitions.writing import write, write_values
from schemas.aggregates.api import ApiSpec
from tests.definitions.bad_input import ROWS
from tests.definitions.specs import json_values, names, specs
from tests.support.laws import SLOW, examples

OURS = Path(__file__).parent / "testdata" / "in"
REAL = Path(__file__).parents[3] / "shared" / "data"


def _spec_of(reading: Reading) -> ApiSpec:
    assert not reading.findings
    (definition,) = reading.definitions
    assert isinstance(definition.spec, ApiSpec)
    return definition.spec


@examples(150, SLOW)
@given(names, st.just("default") | names, specs())
def test_a_written_definition_is_read_back_the_same(name: str, project: str, spec: ApiSpec) -> None:
    content = write(name, project, spec)
    reading = read(content)
    assert _spec_of(reading) == spec
    assert [(d.kind, d.name, d.project) for d in reading.definitions] == [("API", name, project)]
    assert write(name, project, _spec_of(reading)) == content


def test_values_of_other_kinds_are_read_again() -> None:
    for definition in read((OURS / "several-kinds.yaml").read_bytes()).definitions:
        assert not isinstance(definition.spec, ApiSpec)
        (again,) = read(write_values(definition.kind, definition.name, definition.spec)).definitions
        assert (again.kind, again.name, again.spec) == (definition.kind, definition.name, definition.spec)


def _files() -> list[Path]:
    return [*sorted(OURS.iterdir()), *sorted(p for p in REAL.glob("*/*") if p.is_file())]


@pytest.mark.parametrize("path", _files(), ids=[p.name for p in _files()])
def test_import_export_import_is_the_identity(path: Path) -> None:
    for definition in read(path.read_bytes(), path.name).definitions:
        if isinstance(definition.spec, ApiSpec):
            content = write(definition.name, definition.project, definition.spec)
            assert _spec_of(read(content)) == definition.spec


WRONG = [row.document if isinstance(row.document, bytes) else row.document.encode() for row in ROWS]
MARKS = (b"---\n", b"\n", b"- ", b": ", b"[", b"{", b"&a ", b"*a", b"<<: ", b"...\n", b'"', b"\t", b"\0")
STREAM = (b"---\n", b"a: 1\n", b"# c\n", b"...\n", b"\n", b"--- x\n", b"%YAML 1.2\n")
LINE_ENDS = (b"\n", b"\r", b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xa9")
cut_off = (
    st.sampled_from([document for document in WRONG if len(document) < 5000])
    .flatmap(lambda document: st.tuples(st.just(document), st.integers(0, len(document))))
    .map(lambda cut: cut[0][: cut[1]])
)
fragments = st.lists(cut_off | st.binary(max_size=20) | st.sampled_from(MARKS), max_size=6)


@examples(150, SLOW)
@given(st.binary(max_size=200) | fragments.map(b"".join) | st.text(max_size=200).map(str.encode))
@example(b"\xff\xfe")
@example(b"\xef\xbb\xbf")
@example(b"a: \xed\xa0\x80")
def test_reading_never_raises(content: bytes) -> None:
    reading = read(content, "x")
    lines = (
        content.count(b"\n") + content.count(b"\r") + content.count(b"\xc2\x85") + content.count(b"\xe2\x80")
    )
    for finding in reading.findings:
        assert 1 <= finding.line <= lines + 1 and finding.column >= 1
        assert finding.pointer == "" or finding.pointer.startswith("/")
    assert all(d.content in content for d in reading.definitions)


def _places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from _places(value[key], (*path, key))


def _with(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    if not path:
        return new
    changed: Any = value.copy()
    changed[path[0]] = _with(value[path[0]], path[1:], new)
    return changed


DOCUMENTS = [
    document
    for path in sorted(OURS.iterdir())
    for document in yaml.safe_load_all(path.read_bytes())
    if document is not None
]
odd = json_values | st.sampled_from(({"a": 1}, [None], [[]], [{}], {"": {}}, -1, 1.5, "/", "http://", "${"))


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A good document with up to three of its values exchanged for something else."""
    document = draw(st.sampled_from(DOCUMENTS))
    for _ in range(draw(st.integers(1, 3))):
        document = _with(document, draw(st.sampled_from(list(_places(document)))), draw(odd))
    return document


@examples(400, SLOW)
@given(damaged())
def test_damaged_documents_give_findings_or_definitions(document: Any) -> None:
    reading = read(json.dumps(document).encode(), "x")
    errors = [f for f in reading.findings if f.severity == "error"]
    assert bool(reading.definitions) != bool(errors) or document is None
    for definition in reading.definitions:
        if isinstance(definition.spec, ApiSpec):
            content = write(definition.name, definition.project, definition.spec)
            assert _spec_of(read(content)) == definition.spec


@examples(150, SLOW)
@given(st.lists(st.sampled_from(STREAM), max_size=8))
def test_cutting_a_stream_loses_no_content(parts: list[bytes]) -> None:
    content = b"".join(parts)
    found = list(pieces(content, "", DEFAULT))
    assert not any(isinstance(piece, Finding) for piece in found)
    kept = b"".join(piece.content for piece in found if not isinstance(piece, Finding))
    for meant in (b"a: 1", b"--- x"):
        assert kept.count(meant) == content.count(meant)


@given(st.integers(0, 86_400_000))
def test_durations(ms: int) -> None:
    assert milliseconds(duration(ms)) == ms


def test_durations_people_write() -> None:
    assert [milliseconds(t) for t in ("15s", "500ms", "1m30s", "1.5s", "0s", "1h")] == [
        15_000, 500, 90_000, 1500, 0, 3_600_000,
    ]  # fmt: skip
    for wrong in ("", "15", "15 s", "s", "1.5ms", "-1s", "1d", "15S", "1e3s"):
        with pytest.raises(ValueError, match=r"duration|finer"):
            milliseconds(wrong)


def test_the_real_files_are_there_where_they_must_be() -> None:
    if not REAL.is_dir() and os.environ.get("SIGNALBOX_REQUIRE_REAL") != "1":
        pytest.skip("no ../shared/data")
    assert list(REAL.glob("wso2/*.yaml")) and list(REAL.glob("openapi/*.yaml"))
