"""Finds contradictions between the parts of an API, by the same rules for every form.

Runs before the types are checked, so that all errors are found at once; values of a wrong type are skipped
here.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from definitions.source.document_reader import DocumentReader, Node
from definitions.validating import Origins, written_at
from schemas.aggregates.api import ApiSpec
from schemas.aggregates.upstream_urls import base_path_problem, user_info_problem

_PARAMETER = re.compile(r"\{[^{}]+\}")


@dataclass(frozen=True, slots=True)
class Contradiction:
    """`path` is the location in the data of an ApiSpec."""

    path: tuple[str | int, ...]
    rule: str
    message: str


def check(data: Mapping[str, Any], reader: DocumentReader, origins: Origins, base: str) -> None:
    """Adds an error to `reader` for each contradiction in the data of an ApiSpec."""
    for found in contradictions(data):
        at = written_at(ApiSpec, found.path, origins, base)
        if not reader.blamed(at):
            Node(reader, at, None).error(found.rule, found.message)


def contradictions(data: Mapping[str, Any]) -> Iterator[Contradiction]:
    names = {name for u in _mappings(data.get("upstreams")) if isinstance(name := u.get("name"), str)}
    yield from _upstreams(data)
    if data.get("hosts") == []:
        yield Contradiction(("hosts",), "hosts", 'an API needs a host; "*" matches any')
    yield from _delegated(data.get("context"), data.get("delegated_contexts"))
    yield from _backends(("backends",), data.get("backends"), names)
    yield from _backends(("sandbox_backends",), data.get("sandbox_backends"), names)
    yield from _operations(data.get("operations"), names)


def _upstreams(data: Mapping[str, Any]) -> Iterator[Contradiction]:
    seen: set[object] = set()
    for i, upstream in enumerate(_mappings(data.get("upstreams"))):
        name = upstream.get("name")
        if isinstance(name, str) and name in seen:
            yield Contradiction(("upstreams", i, "name"), "duplicate-upstream", f"{name!r} is defined twice")
        seen.add(name if isinstance(name, str) else None)
        endpoints = list(_mappings(upstream.get("endpoints")))
        for j, endpoint in enumerate(endpoints):
            problem = _host_problem(endpoint.get("url"))
            if problem:
                yield Contradiction(("upstreams", i, "endpoints", j, "url"), "url", problem)
        base_path = upstream.get("base_path")
        if isinstance(base_path, str) and (problem := base_path_problem(base_path)):
            yield Contradiction(("upstreams", i, "base_path"), "url", problem)
        if endpoints and all(e.get("weight", 1) == 0 for e in endpoints):
            message = "at least one weight must be above 0"
            yield Contradiction(("upstreams", i, "endpoints"), "weights", message)


def _host_problem(url: object) -> str:
    if not isinstance(url, str):
        return ""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"{url!r}: {error}"
    if not parts.hostname:
        return f"{url!r} has no host"
    if problem := user_info_problem(url):
        return problem
    return f"{url!r} has port 0" if port == 0 else ""


def _backends(path: tuple[str | int, ...], value: object, names: set[str]) -> Iterator[Contradiction]:
    backends = list(_mappings(value))
    for i, backend in enumerate(backends):
        name = backend.get("upstream")
        if isinstance(name, str) and name not in names:
            known = ", ".join(sorted(names)[:10])
            message = f"there is no upstream {name!r}; defined are: {known or 'none'}"
            yield Contradiction((*path, i, "upstream"), "unknown-upstream", message)
    if backends and all(b.get("weight", 1) == 0 for b in backends):
        yield Contradiction(path, "weights", "at least one weight must be above 0")


def _delegated(context: object, value: object) -> Iterator[Contradiction]:
    """An API can only delegate its own context and contexts below it."""
    for i, one in enumerate(cast("list[object]", value) if isinstance(value, list) else ()):
        if isinstance(context, str) and isinstance(one, str) and not f"{one}/".startswith(f"{context}/"):
            message = f"{one} is not {context} or below it"
            yield Contradiction(("delegated_contexts", i), "delegated-context", message)


def _operations(value: object, names: set[str]) -> Iterator[Contradiction]:
    seen: dict[str, int] = {}
    for i, operation in enumerate(_mappings(value)):
        yield from _backends(("operations", i, "backends"), operation.get("backends"), names)
        method, path = operation.get("method"), operation.get("path")
        if not isinstance(path, str) or not isinstance(method, str):
            continue
        segments = path.split("/")[1:]
        for problem in _path_problems(segments):
            yield Contradiction(("operations", i, "path"), "path-template", f"{path!r}: {problem}")
        shape = ["{}" if _PARAMETER.fullmatch(s) else s for s in segments]
        first = seen.setdefault(f"{method} {shape} {operation.get('headers') or ''}", i)
        if first != i:
            message = f"{method} {path} is the same as operation {first + 1} of the list"
            yield Contradiction(("operations", i), "duplicate-operation", message)


def _path_problems(segments: list[str]) -> Iterator[str]:
    names: set[str] = set()
    for i, segment in enumerate(segments):
        last = i == len(segments) - 1
        if not segment and not last:
            yield "it has an empty segment (//)"
        elif _PARAMETER.fullmatch(segment):
            if segment in names:
                yield f"the parameter {segment} is repeated"
            names.add(segment)
        elif "{" in segment or "}" in segment:
            yield f"a parameter is a whole segment, such as /{{id}}, not part of {segment!r}"
        elif "*" in segment and (segment != "*" or not last):
            yield "* must be the whole last segment"


def _mappings(value: object) -> Iterator[Mapping[str, Any]]:
    """The entries of a list, in order; an entry that is not a mapping becomes an empty one."""
    if isinstance(value, list):
        for item in cast("list[object]", value):
            yield cast("Mapping[str, Any]", item) if isinstance(item, dict) else {}
