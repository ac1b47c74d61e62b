"""Timeouts and retries of a route.

Without them, a route has Envoy's own timeouts (15 s for an answer), and a request that no upstream has
received is retried once; 0 disables each.
"""

from datetime import timedelta
from functools import lru_cache

from envoy_data_plane.envoy.config.route.v3 import RetryPolicy, RetryPolicyRetryHostPredicate
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import PreviousHostsPredicate

from gateways.model import Route
from xds.encoding import Encoded, any_of, build, encode

_CONDITIONS = {
    "5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "envoy-ratelimited",
    "retriable-4xx", "refused-stream", "http3-post-connect-failure", "cancelled", "deadline-exceeded",
    "internal", "resource-exhausted", "unavailable",
}  # fmt: skip
_NOT_SENT = "connect-failure,refused-stream,reset-before-request"
"""Failures after which no upstream has received the request."""
_REPEATABLE = {"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"}


def resilience_key(route: Route) -> tuple[object, ...]:
    """The same for routes with the same `resilience_fields`."""
    repeatable = route.method in _REPEATABLE
    return (route.timeout_ms, route.idle_timeout_ms, route.retries, route.retry_on, repeatable)


def resilience_fields(route: Route) -> dict[str, object]:
    """The fields of a route's action."""
    fields: dict[str, object] = {}
    if route.timeout_ms is not None:
        fields["timeout"] = timedelta(milliseconds=route.timeout_ms)
    if route.idle_timeout_ms is not None:
        fields["idle_timeout"] = timedelta(milliseconds=route.idle_timeout_ms)
    if route.retries is not None:
        conditions, statuses = _split(route.retry_on)
        if not conditions and not statuses:
            # A request that an upstream may have received is only retried if it is idempotent.
            conditions = f"{_NOT_SENT},gateway-error" if route.method in _REPEATABLE else _NOT_SENT
        elif statuses:
            conditions = f"{conditions},retriable-status-codes" if conditions else "retriable-status-codes"
        fields["retry_policy"] = build(
            RetryPolicy,
            retry_on=conditions,
            num_retries=route.retries,
            retriable_status_codes=statuses,
            **_elsewhere(),
        )
    return fields


@lru_cache(maxsize=1)
def default_retries() -> Encoded:
    """For routes without retries of their own: a request that no upstream has received is sent once more."""
    return Encoded(encode(build(RetryPolicy, retry_on=_NOT_SENT, num_retries=1, **_elsewhere())))


@lru_cache(maxsize=1)
def _elsewhere() -> dict[str, object]:
    """A retry goes to another host, if there is one."""
    predicate = build(
        RetryPolicyRetryHostPredicate,
        name="previous",
        typed_config=any_of(build(PreviousHostsPredicate)),
    )
    return {
        "retry_host_predicate": [Encoded(encode(predicate))],
        "host_selection_retry_max_attempts": 3,
    }


def resilience_problems(route: Route) -> tuple[str, ...]:
    problems = [
        f"the {what} of {value} ms: must not be negative"
        for what, value in (("timeout", route.timeout_ms), ("idle timeout", route.idle_timeout_ms))
        if value is not None and value < 0
    ]
    if route.retries is not None and not 0 <= route.retries <= 100:
        problems.append(f"{route.retries} retries: must be 0 to 100")
    for condition in _tokens(route.retry_on):
        if condition.isdigit() and 100 <= int(condition) <= 599:
            continue
        if condition not in _CONDITIONS:
            problems.append(f"retrying on {condition!r}: Envoy does not know this condition")
    return tuple(problems)


def _tokens(retry_on: str) -> list[str]:
    return [t for t in (part.strip() for part in retry_on.split(",")) if t]


def _split(retry_on: str) -> tuple[str, list[int]]:
    tokens = _tokens(retry_on)
    return ",".join(t for t in tokens if not t.isdigit()), [int(t) for t in tokens if t.isdigit()]
