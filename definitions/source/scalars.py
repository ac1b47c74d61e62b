"""The value of a plain (unquoted) scalar: the core schema of YAML 1.2, section 10.3.2.

So `yes`, `on`, `1:30`, `2024-06-15` and `010` are text, which YAML 1.1 would read as other types.
"""

import math
import re

Scalar = str | int | float | bool | None

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMERIC_START = frozenset("+-.0123456789")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)", re.ASCII)
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LONGEST = 400


class NotInJson(ValueError):
    """A number that JSON, and so the event log, cannot represent."""


def resolve(text: str) -> Scalar:
    """The value of a plain scalar. Raises NotInJson for infinities, NaN and integers beyond 64 bits."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMERIC_START:
        return text
    if _INTEGER.fullmatch(text):
        return _integer(text, 10)
    if _BASED.fullmatch(text):
        return _integer(text, 0)
    if _FLOAT.fullmatch(text) and not _leading_zero(text):
        value = float(text)
        if math.isinf(value):
            raise NotInJson(f"{text[:40]} is too large a number")
        return value
    if _NOT_FINITE.fullmatch(text):
        raise NotInJson(f"{text} is not a number in JSON")
    return text


def _integer(text: str, base: int) -> int:
    value = int(text, base) if len(text) < _LONGEST else 1 << 64
    if not -(1 << 63) <= value < 1 << 64:
        raise NotInJson(f"{text[:40]} is beyond 64 bits")
    return value


def _leading_zero(text: str) -> bool:
    """Digits that begin with 0: decimal in YAML 1.2, octal in 1.1; so they are read as text."""
    return text.lstrip("+-").isdigit()
