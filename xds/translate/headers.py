"""Headers: the names and values that Envoy accepts, and the messages that set and remove them."""

import re
from functools import lru_cache

from envoy_data_plane.envoy.config.core.v3 import (
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
)

from xds.encoding import Encoded, encoded
from xds.translate.names import GATEWAY_PREFIX, PROBE_HEADER

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")
_STEERING = "x-envoy-"
"""Envoy applies request headers with this prefix: they set retries and timeouts without our limits."""
# Envoy frames messages itself; changing these corrupts them.
_FRAMING = {"connection", "content-length", "transfer-encoding", "upgrade", "keep-alive", "te", "trailer"}

_FORWARDING = "forwarded|x-forwarded-(?:host|port|prefix|proto|server)"
"""Headers about the request before this gateway. `x-forwarded-for` stays: Envoy appends to it."""


def _all_but(name: str, prefix: str) -> str:
    """A regular expression for all header names that begin with `prefix`, except `name`."""
    kept = name.removeprefix(prefix)
    others = [f"{kept[:i]}(?:[^{kept[i]}].*)?" for i in range(len(kept))]
    return f"{prefix}(?:{'|'.join(others)}|{kept}.+)"


OWN = f"{_all_but(PROBE_HEADER, GATEWAY_PREFIX)}|x-envoy-.*"
"""The names of the request headers that only the gateway sets, as a regular expression."""
CLAIMS = f"{OWN}|{_FORWARDING}"
"""The names of the request headers that are never taken from a caller, as a regular expression."""


@lru_cache(maxsize=16_384)
def header(name: str, value: str) -> Encoded:
    """Sets a header, replacing its values. `%` in the value is literal, not a format."""
    return encoded(
        HeaderValueOption,
        header=encoded(HeaderValue, key=name, value=value.replace("%", "%%")),
        append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
        keep_empty_value=not value,
    )


def name_problem(name: object) -> str | None:
    """Why a header of this name cannot be matched, set or removed, if so."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return f"{name!r} is no header name"
    return None


def match_problem(name: object) -> str | None:
    """Why an operation cannot be selected by a header of this name, if so."""
    if problem := name_problem(name):
        return problem
    if str(name).lower() == PROBE_HEADER or re.fullmatch(CLAIMS, str(name).lower()):
        return f"the header {name} is never taken from a caller"
    return None


def change_problem(name: object) -> str | None:
    """Why a header of this name cannot be set or removed, if so."""
    if problem := name_problem(name):
        return problem
    lower = str(name).lower()
    if lower == "host" or lower.startswith(GATEWAY_PREFIX):
        return f"the header {name} belongs to the gateway"
    if lower.startswith(_STEERING):
        return f"the header {name} steers Envoy (retries, timeouts, routing) and cannot be changed"
    if lower in _FRAMING:
        return f"the header {name} frames the message and cannot be changed"
    return None


def value_problem(value: object) -> str | None:
    """Why a header cannot have this value, if so."""
    if not isinstance(value, str):
        return f"{value!r} is no text"
    if len(value) > 8000:
        return "more than 8000 characters"
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
        return "has a line break or another control character"
    return None
