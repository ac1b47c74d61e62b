"""Parses headers and query parameters: preconditions, waiting times, moments, media types."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from api.problems import Problem, invalid_parameter
from projections.pages import AsOf

SEND_ETAG = (
    'Send the ETag that a GET of the resource returns, such as `If-Match: "3"`, or `*` for any version'
)

_TAG = re.compile(r'(W/)?"([^"]*)"')
_WEIGHT = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?=$|[,;])", re.IGNORECASE)
_POSITION = re.compile(r"(?:(\d{1,9}):)?(\d{1,18})", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Precondition:
    """The state of the resource that a change requires.

    `none`: without a condition a client may only create; `new`: must not exist (`If-None-Match: *`);
    `any`: must exist (`If-Match: *`); `version`: must be at one of `versions`.
    """

    kind: Literal["none", "new", "any", "version"]
    versions: tuple[int, ...] = ()


def precondition(if_match: str | None, if_none_match: str | None) -> Precondition:
    """The precondition in two headers. Raises Problem 400 for invalid entity tags, and for both headers."""
    if if_match is not None and if_none_match is not None:
        raise _bad("If-Match", "Send If-Match or If-None-Match, not both.")
    if if_none_match is not None:
        if if_none_match.strip() != "*":
            detail = "Only `If-None-Match: *` is supported here: create it, and never change it."
            raise _bad("If-None-Match", detail)
        return Precondition("new")
    if if_match is None:
        return Precondition("none")
    if if_match.strip() == "*":
        return Precondition("any")
    tags = tuple(_tags(if_match))
    # A weak tag never matches (RFC 9110 section 13.1.1), and no version is -1.
    return Precondition("version", tuple(-1 if weak else version for weak, version in tags))


def matches(if_none_match: str | None, etag: str) -> bool:
    """True when a GET may be answered 304: weak comparison."""
    if not if_none_match:
        return False
    if if_none_match.strip() == "*":
        return True
    return any(f'"{value}"' == etag for _, value in _TAG.findall(if_none_match))


def _tags(header: str) -> list[tuple[bool, int]]:
    found: list[tuple[bool, int]] = []
    for part in header.split(","):
        tag = _TAG.fullmatch(part.strip())
        if tag is None:
            raise _bad("If-Match", f"An entity tag is written in quotes. {SEND_ETAG}.")
        value = tag[2]
        known = value.isascii() and value.isdigit() and len(value) < 10
        found.append((tag[1] is not None, int(value) if known else -1))
    return found


def _bad(header: str, detail: str) -> Problem:
    return Problem(
        400, "invalid-precondition", detail, errors=[{"parameter": header, "detail": "is not supported"}]
    )


def wait_seconds(prefer: str | None, most: float) -> float | None:
    """The seconds of `Prefer: wait=N` (RFC 7240), at most `most`; None when not asked for."""
    if prefer is None:
        return None
    found = _WAIT.search(prefer)
    return min(float(found[1]), most) if found else None


def parse_as_of(as_of: str | None) -> AsOf:
    """The value of `?as_of=`: a position, or an RFC 3339 time. Raises Problem 400."""
    if as_of is None:
        return None
    found = _POSITION.fullmatch(as_of)
    if found:
        return int(found[2])
    # A plus sign that was not escaped arrives as a space.
    text = as_of.replace(" ", "+")
    if _TIME.fullmatch(text):
        try:
            at = datetime.fromisoformat(text.upper()).astimezone(UTC)
            return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
        except (ValueError, OverflowError):
            pass
    raise invalid_parameter(
        "as_of", "`as_of` is an RFC 3339 time or a position.", f"not a time or position: {as_of[:50]!r}"
    )


def partition_of_position(position: str) -> int | None:
    """The partition before the colon of a position, where there is one."""
    found = _POSITION.fullmatch(position)
    return int(found[1]) if found and found[1] else None


def parse_position(text: str, parameter: str, partition: int | None) -> int:
    """A position, perhaps with its partition before a colon. Raises Problem 400, also for a position of
    another partition than `partition`."""
    found = _POSITION.fullmatch(text)
    if not found:
        raise invalid_parameter(parameter, f"`{parameter}` is a position.", f"not a position: {text[:50]!r}")
    if found[1] and partition is not None and int(found[1]) != partition:
        raise other_partition(parameter, int(found[1]), partition)
    return int(found[2])


def beyond_end(parameter: str, end: int) -> Problem:
    """The problem for a position that the event log does not have yet."""
    detail = f"is beyond the end of the event log, which is {end}"
    return invalid_parameter(parameter, f"`{parameter}` is a position in the future.", detail)


def other_partition(parameter: str, given: int, *partitions: int) -> Problem:
    """The problem for a position of another partition."""
    listed = ", ".join(map(str, partitions))
    detail = f"names partition {given}; the requested data is in partition {listed}"
    return invalid_parameter(parameter, f"`{parameter}` is a position of another partition.", detail)


def parse_whole_number(text: str | None, parameter: str, default: int, least: int, most: int) -> int:
    """A whole number in bounds. Raises Problem 400."""
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise invalid_parameter(
            parameter,
            f"`{parameter}` is a whole number from {least} to {most}.",
            f"not from {least} to {most}: {text[:50]!r}",
        )
    return int(text)


def parse_boolean(parameter: str, given: object) -> bool:
    """Raises Problem 400."""
    if given in ("true", "false"):
        return given == "true"
    raise invalid_parameter(parameter, f"`{parameter}` is true or false.", "is true or false")


def media_type(content_type: str | None) -> str:
    """The media type alone, in lower case."""
    return (content_type or "").split(";")[0].strip().lower()


def preferred(accept: str | None, offered: tuple[str, ...]) -> str | None:
    """The media type to answer with (RFC 9110 section 12.5.1), the first of equal ones; None when none is."""
    if not accept or accept == "*/*":
        return offered[0]
    weights = dict(map(_weighted, accept.split(",")))
    ranked = [(_quality(media, weights), media) for media in offered]
    best = max(quality for quality, _ in ranked)
    return next(media for quality, media in ranked if quality == best) if best[0] > 0 else None


def _weighted(part: str) -> tuple[str, float]:
    """A media range, and its weight."""
    range_, *parameters = [p.strip().lower() for p in part.split(";")]
    given = [p[2:] for p in parameters if p.startswith("q=")]
    weight = _WEIGHT.fullmatch(given[0]) if given else None
    return range_, (float(weight[0]) if weight else 0.0) if given else 1.0


def _quality(media: str, weights: Mapping[str, float]) -> tuple[float, int]:
    """The weight of the most specific range that matches the media type, and its specificity."""
    for specificity, range_ in ((2, media), (1, media.split("/")[0] + "/*"), (0, "*/*")):
        if range_ in weights:
            return weights[range_], specificity
    return 0.0, 0
