"""Splits a file into documents, and decodes them.

A line that begins with `---` always begins a document, even within quotes (YAML 1.2, section 9.1.2). So
files can be split without parsing, and a broken document does not affect the others.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from definitions.source.finding import Finding
from definitions.source.limits import Limits

_BOUNDARY = re.compile(rb"^(---(?=[ \t\r\n]|\Z)|\.\.\.(?=[ \t\r\n]|\Z)[^\n]*(\n|\Z))", re.MULTILINE)
_NOTHING = re.compile(rb"(---(?=[ \t\r\n]|\Z))?([ \t\r]*+(#[^\n]*+)?(\n|\Z))*+(\.\.\.[^\n]*\n?)?")
_PREAMBLE = re.compile(rb"([ \t\r]*+([#%][^\n]*+)?(\n|\Z))*+")
_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_UTF8_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Piece:
    """One document: its bytes and their start in the file (`offset` in bytes, `line` from 0)."""

    content: bytes
    offset: int
    line: int


def pieces(content: bytes, source: str, limits: Limits) -> Iterator[Piece | Finding]:
    """The documents of a file, without empty ones."""
    problem = _unreadable(content, source, limits)
    if problem is not None:
        yield problem
        return
    line, counted = 0, 0
    for found, (begin, end) in enumerate(_spans(content), 1):
        line += content.count(b"\n", counted, begin)
        counted = begin
        if found > limits.documents:
            text = f"more than {limits.documents} documents in one file"
            yield Finding("error", text, "", source, line + 1, 1, "too-many-documents")
            return
        yield Piece(content[begin:end], begin, line)


def _unreadable(content: bytes, source: str, limits: Limits) -> Finding | None:
    if len(content) > limits.file_bytes:
        text = f"the file has {len(content)} bytes; at most {limits.file_bytes} are read"
        return Finding("error", text, "", source, 1, 1, "too-large")
    encoding = _BOMS.get(content[:2]) or ("UTF-16 or UTF-32" if b"\0" in content[:2] else None)
    if encoding is not None:
        text = f"the file is {encoding} (byte 0); save it as UTF-8"
        return Finding("error", text, "", source, 1, 1, "not-utf-8")
    return None


def _spans(content: bytes) -> Iterator[tuple[int, int]]:
    start = len(_UTF8_BOM) if content.startswith(_UTF8_BOM) else 0
    cuts = [start]
    for match in _BOUNDARY.finditer(content, start):
        cuts.append(match.start() if match[0] == b"---" else match.end())
    cuts.append(len(content))
    begin = start
    for here, end in pairwise(cuts):
        marked = content.startswith(b"---", here)
        if not marked and end < len(content) and _PREAMBLE.fullmatch(content, here, end):
            continue  # comments and directives belong to the document that follows
        if not _NOTHING.fullmatch(content, here, end):
            yield begin, end
        begin = end


def text_of(piece: Piece, source: str, limits: Limits) -> str | Finding:
    """The document's text; a finding when it cannot be decoded."""
    if len(piece.content) > limits.document_bytes:
        text = f"the document has {len(piece.content)} bytes; at most {limits.document_bytes} are read"
        return Finding("error", text, "", source, piece.line + 1, 1, "too-large")
    try:
        return piece.content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = piece.content[: error.start].decode("utf-8")
        text = f"byte {piece.offset + error.start} (0x{piece.content[error.start]:02x}) is not UTF-8"
        line, column = place_in(before)
        return Finding("error", text, "", source, piece.line + line + 1, column + 1, "not-utf-8")


def place_in(before: str) -> tuple[int, int]:
    """Line and column, from 0, of the position after `before`."""
    return before.count("\n"), len(before) - before.rfind("\n") - 1
