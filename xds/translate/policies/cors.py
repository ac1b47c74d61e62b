"""`cors`: the pages of other origins that a browser lets call an API.

Parameters as in WSO2's policy: `allowedOrigins` (exact, `*`, or `https://*.example.com`), `allowedMethods`,
`allowedHeaders`, `exposedHeaders` (lists of text), `maxAge` (seconds), `allowCredentials`.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from envoy_data_plane.envoy.extensions.filters.http.cors.v3 import Cors, CorsPolicy
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher

from xds.encoding import build
from xds.translate.names import CORS_FILTER
from xds.translate.policies.params import is_list, unknown_keys
from xds.translate.policies.policy import Contributions, PolicyKind, http_filter

_LISTS = ("allowedOrigins", "allowedMethods", "allowedHeaders", "exposedHeaders")
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
_ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://(\*\.)?[A-Za-z0-9.\[\]:-]+")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _apply(params: Mapping[str, Any], contributions: Contributions) -> Iterable[str]:
    found = list(_problems(params))
    yield from found
    if found:
        return
    credentials = bool(params.get("allowCredentials", False))
    age = params.get("maxAge")
    contributions.filters[CORS_FILTER] = build(
        CorsPolicy,
        allow_origin_string_match=[_origin(o) for o in params["allowedOrigins"]],
        allow_methods=", ".join(params.get("allowedMethods") or _METHODS),
        allow_headers=", ".join(params.get("allowedHeaders") or ()),
        expose_headers=", ".join(params.get("exposedHeaders") or ()),
        max_age="" if age is None else str(age),
        allow_credentials=True if credentials else None,
        # A preflight that the policy does not allow is not forwarded to an upstream.
        forward_not_matching_preflights=False,
    )


def _problems(params: Mapping[str, Any]) -> Iterable[str]:
    yield from unknown_keys(params, (*_LISTS, "maxAge", "allowCredentials"))
    for key in _LISTS:
        values = params.get(key)
        if values is None and key != "allowedOrigins":
            continue
        if not is_list(values):
            yield f"{key}: must be a list"
            continue
        if key == "allowedOrigins" and not values:
            yield f"{key}: must name at least one origin"
        pattern = _ORIGIN if key == "allowedOrigins" else _TOKEN
        for i, value in enumerate(values):
            if not isinstance(value, str) or not pattern.fullmatch(value):
                yield f"{key}/{i}: {value!r} is not allowed here"
    origins = params.get("allowedOrigins")
    if params.get("allowCredentials") is True and is_list(origins) and "*" in origins:
        yield "allowCredentials: with the origin * every site could act as the user"
    if not isinstance(params.get("allowCredentials", False), bool):
        yield "allowCredentials: must be true or false"
    age: Any = params.get("maxAge")
    if age is not None and (isinstance(age, bool) or not isinstance(age, int) or not 0 <= age <= 31_536_000):
        yield "maxAge: must be a number of seconds, at most a year"


def _origin(origin: str) -> StringMatcher:
    if "*" not in origin:
        return build(StringMatcher, exact=origin)
    if origin == "*":
        return build(StringMatcher, safe_regex=build(RegexMatcher, regex=".*"))
    scheme, _, host = origin.partition("*.")
    regex = rf"{re.escape(scheme)}[A-Za-z0-9.-]+\.{re.escape(host)}"
    return build(StringMatcher, safe_regex=build(RegexMatcher, regex=regex))


POLICY = PolicyKind("cors", _apply, filters=(http_filter(CORS_FILTER, build(Cors)),))
