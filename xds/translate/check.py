"""Finds everything in an API that Envoy does not support, before anything is sent."""

import re
from collections.abc import Iterable, Sequence

from gateways.model import DeployedApi, Route, Unsupported, WeightedBackend
from xds.translate.clusters import upstream_problems
from xds.translate.headers import match_problem, value_problem
from xds.translate.paths import segment_problem
from xds.translate.policies import contributions_of
from xds.translate.regex import regex_problem
from xds.translate.resilience import resilience_problems

_HOST = re.compile(r"\*|(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_CONDITION = (
    "the condition of the policy {}: Envoy gateways do not evaluate conditions yet; without it the policy "
    "applies to every request"
)
_METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"}


def check(api: DeployedApi) -> tuple[Unsupported, ...]:
    """All reasons against deploying an API; empty when there are none.

    Pointers are into the API's specification; routes and policies carry theirs.
    """
    return tuple(dict.fromkeys(_findings(api)))


def untranslatable(api: DeployedApi) -> tuple[Unsupported, ...]:
    """The findings of `check` without those that concern new deployments only."""
    return tuple(finding for finding in check(api) if not finding.only_new)


def _findings(api: DeployedApi) -> Iterable[Unsupported]:
    for what, name in (("API", api.api), ("deployment", api.deployment)):
        # Both are values of headers.
        if problem := value_problem(name):
            yield Unsupported("", f"the {what}'s name {name!r}: {problem}")
    if not api.context or any(s.kind != "literal" or not s.text for s in api.context):
        yield Unsupported("/context", "a context that is not one or more literal segments")
    for segment in api.context:
        if problem := segment_problem(segment):
            yield Unsupported("/context", problem)
    if not api.hosts:
        yield Unsupported("/hosts", "an API without a host; `*` is any")
    for field, hosts in (("hosts", api.hosts), ("sandbox_hosts", api.sandbox_hosts)):
        for i, host in enumerate(hosts):
            if not _HOST.fullmatch(host):
                yield Unsupported(f"/{field}/{i}", f"the host {host!r}")
            if field == "sandbox_hosts" and host in api.hosts:
                yield Unsupported(f"/{field}/{i}", f"the host {host!r}: also a host of the API itself")
    if not api.routes:
        yield Unsupported("/operations", "an API without operations")
    if api.sandbox_hosts:
        yield from (Unsupported("/sandbox_backends", p) for p in _backend_problems(api.sandbox_backends))
    backend_problems: dict[int, tuple[str, ...]] = {}
    for route in api.routes:
        # Operations without backends of their own share a tuple of backends, and the API keeps it alive.
        if id(route.backends) not in backend_problems:
            backend_problems[id(route.backends)] = tuple(_backend_problems(route.backends))
        for problem in dict.fromkeys((*_route_problems(route), *backend_problems[id(route.backends)])):
            yield Unsupported(route.pointer, problem)
        contributions, problems = contributions_of(route.policies)
        for policy, problem in problems:
            yield Unsupported(policy.pointer or route.pointer, problem)
        for policy in route.policies:
            if policy.condition:
                yield Unsupported(
                    f"{policy.pointer}/condition", _CONDITION.format(policy.name), only_new=True
                )
        for upstream in contributions.upstreams:
            yield from (Unsupported(route.pointer, problem) for problem in upstream_problems(upstream))


def _route_problems(route: Route) -> Iterable[str]:
    if route.method not in _METHODS:
        yield f"the method {route.method!r}"
    for i, segment in enumerate(route.path):
        if segment.kind == "tail" and i != len(route.path) - 1:
            yield "a path that goes on after *"
        if segment.kind == "literal" and not segment.text and i != len(route.path) - 1:
            yield "a path with an empty segment: slashes are merged before any route is looked up"
        if problem := segment_problem(segment):
            yield problem
    for header in route.headers:
        if problem := match_problem(header.name):
            yield f"the header match: {problem}"
        if problem := regex_problem(header.value) if header.regex else value_problem(header.value):
            yield f"the match of header {header.name}: {problem}"
    yield from resilience_problems(route)


def _backend_problems(backends: Sequence[WeightedBackend]) -> Iterable[str]:
    if not any(backend.weight > 0 for backend in backends):
        yield "no backend with a weight above 0"
    if sum(backend.weight for backend in backends) > 2**32 - 1 or any(
        backend.weight < 0 for backend in backends
    ):
        yield "backend weights below 0, or above 4294967295 together"
    for backend in backends:
        if backend.base_path and not re.fullmatch(r"(/[^?#\s\x00-\x1f\x7f]*)?", backend.base_path):
            yield f"the base path {backend.base_path!r}"
        yield from upstream_problems(backend.upstream)
