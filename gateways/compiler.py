"""Compiles an API's specification to the gateway-neutral configuration. Pure; one deployment at a time."""

from collections.abc import Iterable
from typing import Literal
from urllib.parse import urlsplit

from gateways import model
from gateways.upstream_access import UpstreamAccess
from schemas.aggregates.api import ApiSpec, Backend, Operation, Policy, Resilience, Upstream

DEFAULT_CONNECT_TIMEOUT_MS = 5_000


def compile_api(
    organization: str, name: str, revision: int, deployment: str, spec: ApiSpec
) -> model.DeployedApi:
    """The gateway-neutral configuration of one revision of an API."""
    upstreams = {u.name: u for u in spec.upstreams}
    default = _weighted_backends(spec.backends, upstreams)
    return model.DeployedApi(
        organization=organization,
        api=name,
        revision=revision,
        deployment=deployment,
        context=segments(spec.context),
        hosts=spec.hosts,
        routes=_routes(spec, default, upstreams),
        sandbox_hosts=spec.sandbox_hosts,
        sandbox_backends=_weighted_backends(spec.sandbox_backends, upstreams),
    )


def upstreams_of(api: model.DeployedApi) -> tuple[model.Upstream, ...]:
    """The upstreams that requests to an API are sent to, each once, in the order of their first use."""
    backends = [backend for route in api.routes for backend in route.backends]
    backends += api.sandbox_backends if api.sandbox_hosts else ()
    return tuple(dict.fromkeys(backend.upstream for backend in backends if backend.weight > 0))


def denied_upstreams(access: UpstreamAccess, upstreams: Iterable[model.Upstream]) -> tuple[str, ...]:
    """The upstream addresses that a gateway may not reach. Host names are not resolved here."""
    endpoints = dict.fromkeys(e for upstream in upstreams for e in upstream.endpoints if e.weight > 0)
    problems = (access.problem(endpoint.host, endpoint.port) for endpoint in endpoints)
    return tuple(dict.fromkeys(problem for problem in problems if problem))


def segments(path: str) -> tuple[model.Segment, ...]:
    """`/orders/{id}/*` as literal, parameter and tail; `/` has no segments."""
    return tuple(_segment(text) for text in path.removeprefix("/").split("/")) if path != "/" else ()


def _segment(text: str) -> model.Segment:
    if text == "*":
        return model.Segment("tail")
    if text.startswith("{") and text.endswith("}"):
        return model.Segment("parameter", text[1:-1])
    return model.Segment("literal", text)


def _routes(
    spec: ApiSpec, default: tuple[model.WeightedBackend, ...], upstreams: dict[str, Upstream]
) -> tuple[model.Route, ...]:
    policies = tuple(_policies(spec.policies, "/policies"))
    of_api = _over(spec.resilience, None)
    return tuple(
        _route(index, operation, spec, default, upstreams, policies, of_api)
        for index, operation in enumerate(spec.operations)
    )


def _route(
    index: int,
    operation: Operation,
    spec: ApiSpec,
    default: tuple[model.WeightedBackend, ...],
    upstreams: dict[str, Upstream],
    policies: tuple[model.Policy, ...],
    of_api: Resilience,
) -> model.Route:
    pointer = f"/operations/{index}"
    resilience = _over(spec.resilience, operation.resilience) if operation.resilience else of_api
    return model.Route(
        method=operation.method,
        path=segments(operation.path),
        backends=_weighted_backends(operation.backends, upstreams) or default,
        headers=tuple(
            model.HeaderMatch(h.name, h.value, h.type == "RegularExpression") for h in operation.headers
        ),
        policies=(*policies, *_policies(operation.policies, f"{pointer}/policies")),
        timeout_ms=resilience.timeout,
        idle_timeout_ms=resilience.idle_timeout,
        retries=resilience.retries,
        retry_on=resilience.retry_on or "",
        operation_id=operation.operation_id or "",
        pointer=pointer,
    )


def _over(api: Resilience | None, operation: Resilience | None) -> Resilience:
    """The operation's values override the API's."""
    merged = api.model_dump(exclude_none=True) if api else {}
    merged |= operation.model_dump(exclude_none=True) if operation else {}
    return Resilience(**merged)


def _policies(policies: Iterable[Policy], pointer: str) -> Iterable[model.Policy]:
    for i, policy in enumerate(policies):
        yield model.Policy(policy.name, policy.params, policy.condition or "", f"{pointer}/{i}")


def _weighted_backends(
    backends: Iterable[Backend], upstreams: dict[str, Upstream]
) -> tuple[model.WeightedBackend, ...]:
    return tuple(_weighted_backend(upstreams[b.upstream], b.weight) for b in backends)


def _weighted_backend(upstream: Upstream, weight: int) -> model.WeightedBackend:
    endpoints = tuple(_endpoint(e.url, e.weight) for e in upstream.endpoints)
    timeout = upstream.connect_timeout or DEFAULT_CONNECT_TIMEOUT_MS
    in_flight = upstream.max_in_flight or model.MAX_IN_FLIGHT
    return model.WeightedBackend(model.Upstream(endpoints, timeout, in_flight), upstream.base_path, weight)


def _endpoint(url: str, weight: int) -> model.Endpoint:
    parts = urlsplit(url)
    scheme: Literal["http", "https"] = "https" if parts.scheme == "https" else "http"
    return model.Endpoint(
        scheme, parts.hostname or "", parts.port or (443 if scheme == "https" else 80), weight
    )
