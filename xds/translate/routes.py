"""The routes of one API, in the order of a virtual host: the more specific before the less.

First the probe, then the operations, then CORS preflights, then 405 for known paths, then 404 for the
rest of the context. A more general operation is preferred to 405: `GET /orders/special` is
`GET /orders/{id}` where `/orders/special` has only `POST`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from betterproto2 import Message
from envoy_data_plane.envoy.config.core.v3 import RuntimeFractionalPercent
from envoy_data_plane.envoy.config.route.v3 import (
    HeaderMatcher,
    Route,
    RouteAction,
    RouteMatch,
    WeightedCluster,
    WeightedClusterClusterWeight,
)
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from envoy_data_plane.envoy.type.v3 import FractionalPercent, FractionalPercentDenominatorType

from gateways import model
from gateways.compiler import upstreams_of
from gateways.config_resource import DeploymentRef
from gateways.model import DeployedApi, GatewaySettings, Segment, Upstream, WeightedBackend
from xds.encoding import Encoded, any_of, encode, encoded
from xds.translate import answers
from xds.translate.clusters import rewrites_host, upstream_cluster
from xds.translate.coverage import Coverage
from xds.translate.headers import header
from xds.translate.names import CORS_FILTER
from xds.translate.paths import literal_path, path_match, path_rewrite, replaced_path, specificity
from xds.translate.policies import contributions_of
from xds.translate.policies.policy import Contributions
from xds.translate.resilience import resilience_fields, resilience_key

_MILLION = 1_000_000
_ANYTHING = encoded(StringMatcher, safe_regex=encoded(RegexMatcher, regex=".+"))


@dataclass(frozen=True, slots=True)
class TranslatedApi:
    """An API's encoded routes on its own hosts and on its sandbox hosts; `context` is percent-encoded. All of
    their answers get `headers`, which the routes do not contain."""

    ref: DeploymentRef
    context: str
    headers: tuple[Encoded, ...]
    hosts: tuple[str, ...]
    routes: tuple[Encoded, ...]
    sandbox_hosts: tuple[str, ...]
    sandbox_routes: tuple[Encoded, ...]
    upstreams: tuple[Upstream, ...]
    """All, each once."""
    called: tuple[Upstream, ...] = ()
    """Those of them that the HTTP filters of policies send requests to."""


def translated_api(settings: GatewaySettings, api: DeployedApi) -> TranslatedApi:
    """Translates an API for which `check` has no findings."""
    called: dict[Upstream, None] = {}
    sandboxed = (replace(route, backends=api.sandbox_backends) for route in api.routes)
    context = "".join(f"/{segment.text}" for segment in api.context)
    return TranslatedApi(
        ref=DeploymentRef(api.deployment, api.api, api.revision, context, api.hosts[0]),
        context=literal_path(api.context),
        headers=(answers.revision_header(api),) if settings.revision_header else (),
        hosts=api.hosts,
        routes=_routes(settings, api, api.routes, called),
        sandbox_hosts=api.sandbox_hosts,
        sandbox_routes=_routes(settings, api, sandboxed, called) if api.sandbox_hosts else (),
        upstreams=tuple(dict.fromkeys((*upstreams_of(api), *called))),
        called=tuple(called),
    )


def _routes(
    settings: GatewaySettings,
    api: DeployedApi,
    operations: Iterable[model.Route],
    called: dict[Upstream, None],
) -> tuple[Encoded, ...]:
    """The encoded routes, in order. Adds the upstreams that policies call to `called`."""
    ordered = sorted(operations, key=lambda r: (specificity(r.path), -len(r.headers)))
    contributions = [contributions_of(route.policies, settings.subject)[0] for route in ordered]
    for each in contributions:
        called.update(each.upstreams)
    routes: list[Encoded] = [answers.probe(settings, api)] if settings.probe_secret else []
    paths = {path: path_match(api.context, path) for path in dict.fromkeys(r.path for r in ordered)}
    actions = _Actions(settings, api.context)
    for route, each in zip(ordered, contributions, strict=True):
        routes += _operation(paths[route.path], route, each, actions)
    routes += _preflights(settings, paths, ordered, contributions)
    routes += _wrong_methods(paths, ordered)
    if not any(len(r.path) == 1 and r.path[0].kind == "tail" for r in ordered):
        routes.append(answers.not_found(api))
    return tuple(routes)


Action = tuple[Encoded, Encoded | None]
"""The target of a route, and its share of the requests that reach the route."""


class _Actions:
    """The actions of an API's operations. Most operations share theirs, so each is built and encoded once."""

    def __init__(self, settings: GatewaySettings, context: Sequence[Segment]) -> None:
        self._settings = settings
        self._context = context
        self._known: dict[tuple[object, ...], list[Action]] = {}

    def of(self, route: model.Route) -> list[Action]:
        # Operations without backends of their own share a tuple of backends, which is costly to hash. Its
        # identity is a key because the operations, which outlive this object, keep it alive.
        key = (id(route.backends), replaced_path(route.path), *resilience_key(route))
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = list(self._built(route))
        return known

    def _built(self, route: model.Route) -> Iterable[Action]:
        resilience = resilience_fields(route)
        for backends, fraction in _by_base_path(route.backends):
            rewrite = path_rewrite(self._context, route.path, backends[0].base_path)
            destination = _destination(self._settings, backends)
            yield encoded(RouteAction, **destination, **rewrite, **resilience), fraction


Paths = Mapping[tuple[Segment, ...], dict[str, object]]
"""The path fields of the matches of operations, by their paths."""


def _operation(
    path: dict[str, object],
    route: model.Route,
    contributions: Contributions,
    actions: _Actions,
) -> Iterable[Encoded]:
    headers = [_method(route.method), *(_header_match(h) for h in route.headers)]
    common = {
        "request_headers_to_add": _added(contributions.request_headers),
        "request_headers_to_remove": _removed(contributions.request_headers),
        "response_headers_to_add": _added(contributions.response_headers),
        "response_headers_to_remove": _removed(contributions.response_headers),
        "typed_per_filter_config": {n: any_of(config) for n, config in contributions.filters.items()},
    }
    for action, fraction in actions.of(route):
        match = encoded(RouteMatch, **path, headers=headers, runtime_fraction=fraction)
        yield encoded(Route, match=match, route=action, **common)


def _by_base_path(
    backends: Sequence[WeightedBackend],
) -> Iterable[tuple[list[WeightedBackend], Encoded | None]]:
    """Arms that one route can hold, and which share of the requests that reach the route it takes.

    A rewrite belongs to the route, not to the weighted cluster, so backends with other base paths are other
    routes. Envoy draws one random number per request and compares it with each route's fraction in
    turn: fractions are cumulative, and the last route takes the rest.
    """
    groups: dict[str, list[WeightedBackend]] = {}
    for backend in backends:
        if backend.weight > 0:
            groups.setdefault(backend.base_path.rstrip("/"), []).append(backend)
    total = sum(backend.weight for backends in groups.values() for backend in backends)
    taken = 0
    for group in groups.values():
        taken += sum(backend.weight for backend in group)
        if taken == total:
            yield group, None
            return
        share = encoded(
            FractionalPercent,
            numerator=round(taken * _MILLION / total),
            denominator=FractionalPercentDenominatorType.MILLION,
        )
        yield group, encoded(RuntimeFractionalPercent, default_value=share)


def _destination(settings: GatewaySettings, backends: Sequence[WeightedBackend]) -> dict[str, object]:
    fields: dict[str, object] = {}
    if any(rewrites_host(backend.upstream) for backend in backends):
        fields = {"auto_host_rewrite": True, "append_x_forwarded_host": True}
    weights: dict[str, int] = {}
    for backend in backends:
        name = upstream_cluster(settings.subject, backend.upstream)
        weights[name] = weights.get(name, 0) + backend.weight
    if len(weights) == 1:
        return fields | {"cluster": next(iter(weights))}
    clusters = [encoded(WeightedClusterClusterWeight, name=n, weight=w) for n, w in weights.items()]
    return fields | {"weighted_clusters": encoded(WeightedCluster, clusters=clusters)}


def _preflights(
    settings: GatewaySettings,
    paths: Paths,
    operations: Sequence[model.Route],
    contributions: Sequence[Contributions],
) -> Iterable[Encoded]:
    """A preflight asks with OPTIONS for another method: it gets the policy of that operation.

    The CORS filter answers every preflight, allowed or not. It only handles routes with a target, so these
    have one, but no request ever gets that far.
    """
    asking: dict[tuple[Segment, ...], dict[bytes, tuple[model.Route, Message, dict[str, None]]]] = {}
    for route, each in zip(operations, contributions, strict=True):
        if cors := each.filters.get(CORS_FILTER):
            by_policy = asking.setdefault(route.path, {})
            by_policy.setdefault(encode(cors), (route, cors, {}))[2][route.method] = None
    for path, by_policy in asking.items():
        for operation, cors, methods in by_policy.values():
            asked = encoded(StringMatcher, safe_regex=encoded(RegexMatcher, regex="|".join(methods)))
            headers = [
                _method("OPTIONS"),
                encoded(HeaderMatcher, name="origin", string_match=_ANYTHING),
                encoded(HeaderMatcher, name="access-control-request-method", string_match=asked),
            ]
            match = encoded(RouteMatch, **paths[path], headers=headers)
            backend = next(backend for backend in operation.backends if backend.weight > 0)
            yield encoded(
                Route,
                match=match,
                route=encoded(RouteAction, **_destination(settings, [backend])),
                typed_per_filter_config={CORS_FILTER: any_of(cors)},
            )


def _wrong_methods(paths: Paths, operations: Sequence[model.Route]) -> Iterable[Encoded]:
    coverage = Coverage((route.path, route.method) for route in operations)
    for path, fields in paths.items():
        yield answers.not_allowed(encoded(RouteMatch, **fields), coverage.methods(path))


@lru_cache(maxsize=64)
def _method(name: str) -> Encoded:
    return encoded(HeaderMatcher, name=":method", string_match=encoded(StringMatcher, exact=name))


def _header_match(header: model.HeaderMatch) -> Encoded:
    if header.regex:
        matcher = encoded(StringMatcher, safe_regex=encoded(RegexMatcher, regex=header.value))
    else:
        matcher = encoded(StringMatcher, exact=header.value)
    return encoded(HeaderMatcher, name=header.name, string_match=matcher)


def _added(changes: dict[str, str | None]) -> list[Encoded]:
    return [header(name, value) for name, value in changes.items() if value is not None]


def _removed(changes: dict[str, str | None]) -> list[str]:
    return [name for name, value in changes.items() if value is None]
