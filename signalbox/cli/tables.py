"""Plain, aligned tables, and values as cells."""

from collections.abc import Sequence
from typing import Any

from schemas.text import visible
from signalbox.cli.http.documents import is_list, is_object

LONGEST = 80
GAP = "  "
UNSET: tuple[Any, ...] = (None, "", [], (), {})


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table: columns as wide as their widest cell, headers in capitals, no trailing blanks.

    Control and bidirectional characters are shown as escapes.
    """
    rows = [[visible(value) for value in row] for row in rows]
    widths = [max([len(h), *(len(row[i]) for row in rows)]) for i, h in enumerate(headers)]
    lines = ([h.upper() for h in headers], *rows)
    return "\n".join(
        GAP.join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def fields(pairs: Sequence[tuple[str, str]], indent: str = "") -> str:
    """Names and values, one pair per line."""
    width = max((len(name) for name, _ in pairs), default=0) + 1
    return "\n".join(f"{indent}{name + ':':<{width}} {value}".rstrip() for name, value in pairs)


def cell(value: Any) -> str:
    """A value in one line, with escapes for invisible characters; of objects only the fields that are set."""
    text = visible(_words(value))
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _words(value: Any, within: bool = False) -> str:
    if value in UNSET:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if is_list(value):
        return ", ".join(_words(v, True) for v in value)
    if is_object(value):
        text = ", ".join(f"{k} {_words(v, True)}" for k, v in value.items() if v not in UNSET)
        return f"({text})" if within else text
    return " ".join(str(value).split())


def header(column: str) -> str:
    """The header of a dotted path: its last part."""
    return column.rpartition(".")[2].replace("_", " ")
