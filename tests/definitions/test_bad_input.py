"""What is wrong, where, and by which rule: one row per mistake."""

import pytest

from definitions.reading import read
from definitions.source.limits import Limits
from tests.definitions.bad_input import API, OPENAPI, ROWS, Row


@pytest.mark.parametrize("row", ROWS, ids=[row.about for row in ROWS])
def test_an_error_has_its_message_and_its_place(row: Row) -> None:
    content = row.document if isinstance(row.document, bytes) else row.document.encode()
    reading = read(content, "orders.yaml")
    errors = [f for f in reading.findings if f.severity == "error"]
    assert [f"{f.rule} {f.line}:{f.column} {f.pointer}" for f in errors] == list(row.findings)
    assert len(reading.definitions) == (0 if errors else 1)
    assert all(f.source == "orders.yaml" and f.message for f in reading.findings)


def test_the_message_says_what_to_write_instead() -> None:
    (finding,) = read((API + "  version: 1.10\n").encode()).findings
    assert finding.message == '1.10 is read as the number 1.1; put it in quotes: "1.10"'
    (finding,) = read((API + "  desciption: x\n").encode()).findings
    assert finding.message == "'desciption' is not known here; did you mean 'description'?"
    (finding,) = read(b"apiVersion: v1").findings
    assert "signalbox.io/v1" in finding.message and "openapi: 3.0.x or 3.1.x" in finding.message


def test_documents_after_and_before_a_broken_one_are_read() -> None:
    stream = "---\n".join((API, "a: [\n", API.replace("name: orders", "name: more"), 'b: "\n')).encode()
    reading = read(stream, "all.yaml")
    assert [d.name for d in reading.definitions] == ["orders", "more"]
    assert [d.line for d in reading.definitions] == [1, 11]
    assert [(f.rule, f.line) for f in reading.findings] == [("syntax", 9), ("syntax", 19)]


def test_each_document_keeps_its_own_bytes() -> None:
    other = API.replace("name: orders", "name: more")
    reading = read(f"# first\n---\n{API}...\n# second\n---\n{other}".encode())
    first, second = (read(d.content).definitions[0] for d in reading.definitions)
    assert (first.name, second.name) == ("orders", "more")
    assert b"".join(d.content for d in reading.definitions).startswith(b"# first\n---\n")


def test_the_same_thing_twice_in_a_file() -> None:
    reading = read(f"{API}---\n{API}".encode())
    assert [d.line for d in reading.definitions] == [1]
    assert [(f.rule, f.line) for f in reading.findings] == [("duplicate-definition", 9)]


def test_limits() -> None:
    small = Limits(file_bytes=5000, documents=2, document_bytes=500, nodes=100, characters=1000)
    rows = {
        "a: 1\n" * 2000: ["too-large"],
        f"{API}# {'x' * 500}\n---\n{API}": ["too-large"],
        "a: 1\n---\nb: 1\n---\nc: 1\n": ["unknown-form", "unknown-form", "too-many-documents"],
        "- a\n" * 101: ["too-many-values"],
        f"a: &a {'x' * 300}\nb: [*a, *a, *a]\n": ["too-many-values"],
    }
    for text, rules in rows.items():
        assert [f.rule for f in read(text.encode(), limits=small).findings] == rules, text[:60]


def test_of_very_many_findings_the_first_are_kept() -> None:
    names = "\n".join(f"  field{i}: 1" for i in range(3_000))
    reading = read((API + names).encode())
    assert len(reading.findings) == 1001
    assert reading.findings[0].pointer == "/spec/field0"
    last = reading.findings[-1]
    assert (last.rule, last.message) == ("too-many-findings", "2000 more findings in this document")


def test_aliases_that_grow_are_refused_before_they_are_written_out() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    assert [f.rule for f in read("\n".join(lines).encode()).findings] == ["too-many-values"]


def test_json_is_read_the_same_way() -> None:
    text = "\n".join(
        (
            r'{"apiVersion": "signalbox.io/v1", "kind": "API", "metadata": {"name": "orders"},',
            '\t"spec": {"context": "/orders", "upstream": "http://orders:8080",',
            r'"operations": [{"method": "GET", "path": "\/"}],'
            r'"displayName": "\ud83d\ude80 \/ \u00e9", "contxt": 1}}',
        )
    )
    column = text.splitlines()[2].index('"contxt"') + 1
    (finding,) = read(text.encode()).findings
    assert (finding.line, finding.column, finding.pointer) == (3, column, "/spec/contxt")
    (definition,) = read(text.replace(', "contxt": 1', "").encode()).definitions
    assert definition.media_type == "application/json"
    assert getattr(definition.spec, "display_name", None) == "🚀 / é"


def test_a_name_for_definitions_that_carry_none() -> None:
    assert [d.name for d in read(OPENAPI.encode(), name="given").definitions] == ["given"]
    assert [d.name for d in read(OPENAPI.encode()).definitions] == ["orders"]
    assert [d.name for d in read(API.replace("name: orders", "").encode(), name="given").definitions] == [
        "given"
    ]
    assert [d.name for d in read(API.encode(), name="given").definitions] == ["orders"]


def test_a_byte_order_mark_and_windows_line_ends() -> None:
    content = b"\xef\xbb\xbf" + (API + "  x: 1\n").replace("\n", "\r\n").encode()
    assert [(f.line, f.column) for f in read(content).findings] == [(8, 3)]


def test_a_list_that_is_too_short_is_reported_in_words() -> None:
    (finding,) = read(API.replace("operations: [{method: GET, path: /}]", "operations: []").encode()).findings
    assert finding.message == "operations needs at least 1 entry"
