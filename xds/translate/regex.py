"""Accepts regular expressions that are certainly valid in RE2: a conservative subset of its syntax.

A gateway rejects the whole resource for one bad expression, so an expression that is not known to be good is
refused before it is sent.
"""

import re
import warnings

_GROUP = re.compile(r"\(\?(?!:|i\)|P<[A-Za-z_][A-Za-z0-9_]*>)")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_KNOWN_ESCAPE = re.compile(r"[dDwWsSbBAntrfv]|[^A-Za-z0-9]")
_REPEAT = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_NO_LEAST = re.compile(r"\{,(\d*)\}")
_POSSESSIVE = re.compile(r"[*+?}]\+")
_LONGEST = 500
_LARGEST = 2000
"""Characters times counted repeats: a few thousand RE2 instructions, see `xds.bootstrap.RUNTIME`."""


def regex_problem(pattern: str) -> str | None:
    """Why an expression is refused, if so."""
    if not pattern:
        return "empty"
    if len(pattern) > _LONGEST:
        return f"longer than {_LONGEST} characters"
    for match in _ESCAPE.finditer(pattern):
        if not _KNOWN_ESCAPE.fullmatch(match[1]):
            return f"the escape \\{match[1]}"
    plain = _ESCAPE.sub("x", pattern)
    if found := _GROUP.search(plain):
        return f"the group at {plain[found.start() : found.start() + 4]!r}: no look-around and the like"
    if found := _NO_LEAST.search(plain):
        return (
            f"{found[0]} is literal text to RE2, not a repeat: write {{0,{found[1]}}} for the repeat, or "
            "\\{ for the brace"
        )
    if _POSSESSIVE.search(plain):
        return "a repeat of a repeat"
    size = 1
    for low, high in _REPEAT.findall(plain):
        size *= max(int(low), int(high or 0), 1)
    if size > 1000 or size * len(pattern) > _LARGEST:
        return "counted repeats that make it too large"
    try:
        with warnings.catch_warnings():
            # Syntax whose meaning may change in Python keeps today's meaning in RE2.
            warnings.simplefilter("ignore", FutureWarning)
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return str(error)
    return None
