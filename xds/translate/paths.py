"""Paths: the match of a route, and how its context is replaced by the upstream's path.

* literals only -> exact `path`;
* a tail after literals -> `path_separated_prefix`: `/x/*` is `/x` and everything below it, as in WSO2;
* a parameter (one segment, not empty) -> `safe_regex`;
* the operation `/` -> the context itself, with or without a slash at its end.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import quote

from envoy_data_plane.envoy.type.matcher.v3 import RegexMatchAndSubstitute, RegexMatcher

from gateways.model import Segment
from xds.encoding import encoded

# RFC 3986 pchar; "%" because encoded characters are kept.
_PCHAR = "!$&'()*+,;=:@-._~%"
_RANK = {"literal": 0, "parameter": 1, "tail": 2}


def literal_path(segments: Sequence[Segment]) -> str:
    """`/a/b` of literal segments, percent-encoded where a path needs it."""
    return "".join("/" + _quoted(s.text) for s in segments)


@lru_cache(maxsize=16_384)
def _quoted(text: str) -> str:
    return quote(text, safe=_PCHAR)


def is_root(path: Sequence[Segment]) -> bool:
    """Whether a path below a context is `/`."""
    return not path or (len(path) == 1 and path[0].kind == "literal" and not path[0].text)


def specificity(path: Sequence[Segment]) -> tuple[int, ...]:
    """Sorts the more specific path first: literal, parameter, tail, from the left."""
    return () if is_root(path) else tuple(_RANK[s.kind] for s in path)


def covers(wide: Sequence[Segment], narrow: Sequence[Segment]) -> bool:
    """Whether every path that `narrow` matches is matched by `wide` too."""
    if is_root(wide) or is_root(narrow):
        return (is_root(wide) and is_root(narrow)) or (bool(wide) and wide[0].kind == "tail")
    for i, segment in enumerate(wide):
        if segment.kind == "tail":
            return True
        if i >= len(narrow) or narrow[i].kind == "tail":
            return False
        if segment.kind == "literal" and (narrow[i].kind != "literal" or narrow[i].text != segment.text):
            return False
    return len(wide) == len(narrow)


def path_match(context: Sequence[Segment], path: Sequence[Segment]) -> dict[str, object]:
    """The path field of a route's match."""
    base = literal_path(context)
    if is_root(path):
        return {"safe_regex": encoded(RegexMatcher, regex=f"{_regex_quote(base)}/?")}
    if any(s.kind == "parameter" for s in path):
        regex = _regex_quote(base) + "".join(_regex(s) for s in path)
        return {"safe_regex": encoded(RegexMatcher, regex=regex)}
    if path[-1].kind == "tail":
        return {"path_separated_prefix": base + literal_path(path[:-1])}
    return {"path": base + literal_path(path)}


def replaced_path(path: Sequence[Segment]) -> str:
    """The literal path that replaces the whole match of a route; empty when only its context is removed.

    Envoy replaces the whole of an exact path or of a separated prefix.
    """
    below = path[:-1] if path and path[-1].kind == "tail" else path
    if is_root(path) or any(s.kind != "literal" for s in below):
        return ""
    return literal_path(below)


def path_rewrite(context: Sequence[Segment], path: Sequence[Segment], base_path: str) -> dict[str, object]:
    """The rewrite field of a route's action: context off, `base_path` in front."""
    base_path = quote(base_path.rstrip("/"), safe=_PCHAR + "/")
    if replaced := replaced_path(path):
        return {"prefix_rewrite": base_path + replaced}
    context_regex = "^" + _regex_quote(literal_path(context))
    # Without a base path, the slash after the context is kept, or added, so that no path is empty.
    pattern, substitution = (context_regex, base_path) if base_path else (f"{context_regex}/?", "/")
    rewrite = encoded(
        RegexMatchAndSubstitute, pattern=encoded(RegexMatcher, regex=pattern), substitution=substitution
    )
    return {"regex_rewrite": rewrite}


@lru_cache(maxsize=16_384)
def segment_problem(segment: Segment) -> str | None:
    """Why a segment cannot be matched, if so."""
    text = segment.text
    if segment.kind != "literal":
        return None
    if text in (".", ".."):
        return f"the path segment {text!r}: it is resolved before any route is looked up"
    if "{" in text or "}" in text:
        return f"the path segment {text!r}: a parameter must be a whole segment"
    if "*" in text:
        return f"the path segment {text!r}: * may only stand alone, as the last segment"
    if re.search(r"[/\\\x00-\x1f\x7f]", text) or re.search(r"%(?![0-9A-Fa-f]{2})", text):
        return f"the path segment {text!r}: a slash, a control character or a broken percent-encoding"
    if re.search(r"%2f|%5c|%2e", text, re.IGNORECASE):
        return (
            f"the path segment {text!r}: an encoded slash or dot is refused or decoded "
            "before any route is looked up"
        )
    return None


def _regex(segment: Segment) -> str:
    if segment.kind == "literal":
        return _regex_quote(literal_path([segment]))
    return "/[^/]+" if segment.kind == "parameter" else "(?:/.*)?"


def _regex_quote(text: str) -> str:
    """RE2's QuoteMeta for ASCII: every character except letters, digits and underscores may follow a
    backslash."""
    return re.sub(r"([^A-Za-z0-9_/%-])", r"\\\1", text)
