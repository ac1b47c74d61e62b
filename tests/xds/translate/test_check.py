"""Features that Envoy does not support are reported before anything is sent: all of them, with their
locations."""

from dataclasses import replace
from typing import Any

import pytest

from gateways.model import DeployedApi, Policy, UnsupportedError
from tests.xds.translate.inputs import api, settings
from xds.translate import check, translate


def _orders(**changes: Any) -> DeployedApi:
    fields: dict[str, Any] = {
        "api": "orders",
        "context": "/orders",
        "backends": [{"urls": ["http://10.0.0.1:8080"]}],
        "operations": [{"method": "GET", "path": "/orders"}],
    }
    return api(**fields | changes)


def _operation(**changes: Any) -> DeployedApi:
    return _orders(operations=[{"method": "GET", "path": "/orders"} | changes])


def _policy(name: str, params: Any) -> DeployedApi:
    return _operation(policies=[{"name": name, "params": params}])


def _headers(*items: Any, side: str = "request") -> dict[str, Any]:
    return {side: {"headers": list(items)}}


def test_an_ordinary_api_has_nothing_against_it() -> None:
    assert check(_orders()) == ()


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (_policy("jwt-auth", {}), "the policy jwt-auth: Envoy gateways do not have it yet"),
        (_policy("set-headers", {}), "neither request nor response has headers"),
        (_policy("set-headers", _headers({"name": "x", "value": "y"}) | {"requests": 1}), "requests: not"),
        (_policy("set-headers", _headers("x")), "request/headers/0: must have name and value"),
        (_policy("set-headers", _headers({"name": "a b", "value": "c"})), "is no header name"),
        (_policy("set-headers", _headers({"name": "x", "value": 1})), "1 is no text"),
        (_policy("set-headers", _headers({"name": "x", "value": "a\nb"})), "a line break"),
        (_policy("set-headers", _headers({"name": "Host", "value": "h"})), "belongs to"),
        (_policy("set-headers", _headers({"name": ":path", "value": "h"})), "no header name"),
        (_policy("set-headers", _headers({"name": "x", "value": "v", "if": 1})), "headers/0/if"),
        (_policy("set-headers", {"request": {"headers": {}}}), "request/headers: must be a list"),
        (_policy("remove-headers", _headers({"name": "content-length"}, side="response")), "frames"),
        (_policy("remove-headers", _headers("x-signalbox-scope")), "belongs to the gateway"),
        (_policy("set-headers", _headers({"name": "x-signalbox-tenant", "value": "1"})), "belongs to"),
        (_policy("set-headers", _headers({"name": "X-Envoy-Max-Retries", "value": "500"})), "steers Envoy"),
        (_policy("set-headers", _headers({"name": "x-envoy-a", "value": "1"}, side="response")), "steers"),
        (_policy("remove-headers", _headers({"name": "x-envoy-retry-on"})), "steers Envoy"),
        (_policy("remove-headers", _headers("x-envoy-a", side="response")), "steers Envoy"),
        (_policy("cors", {}), "allowedOrigins: must be a list"),
        (_policy("cors", {"allowedOrigins": []}), "at least one origin"),
        (_policy("cors", {"allowedOrigins": ["app.test"]}), "allowedOrigins/0"),
        (_policy("cors", {"allowedOrigins": ["*"], "allowCredentials": True}), "every site"),
        (_policy("cors", {"allowedOrigins": ["*"], "maxAge": "1"}), "maxAge"),
        (_policy("cors", {"allowedOrigins": ["*"], "allowedMethods": "GET"}), "must be a list"),
        (_operation(path="/a/{id}.csv"), "a parameter must be a whole segment"),
        (_operation(path="/a*"), "* may only stand alone"),
        (_operation(path="/*/a"), "goes on after *"),
        (_operation(path="/a//b"), "an empty segment"),
        (_operation(path="/a/../b"), "resolved before any route"),
        (_operation(path="/a%2Fb"), "an encoded slash"),
        (_operation(path="/a%zz"), "a broken percent-encoding"),
        (_operation(method="BREW"), "the method 'BREW'"),
        (_operation(retry_on="teapot", retries=1), "retrying on 'teapot'"),
        (_operation(retries=1000), "1000 retries"),
        (_operation(timeout_ms=-1), "the timeout of -1 ms"),
        (_operation(headers=[{"name": "x", "value": "(?=a)", "regex": True}]), "no look-around"),
        (_operation(headers=[{"name": "x", "value": r"(a)\1", "regex": True}]), r"the escape \1"),
        (_operation(headers=[{"name": "x", "value": "(a", "regex": True}]), "unterminated"),
        (_operation(headers=[{"name": "x", "value": "a{1001}", "regex": True}]), "too large"),
        (_operation(headers=[{"name": "x", "value": "a{,5}", "regex": True}]), "write {0,5}"),
        (_operation(headers=[{"name": "x", "value": "a{,}", "regex": True}]), "write {0,}"),
        (_operation(headers=[{"name": "x y", "value": "a"}]), "'x y' is no header name"),
        (_operation(headers=[{"name": "X-Signalbox-Tenant", "value": "a"}]), "never taken from a caller"),
        (_operation(headers=[{"name": "x-signalbox-probe", "value": "a"}]), "never taken from a caller"),
        (_operation(headers=[{"name": "forwarded", "value": "a"}]), "never taken from a caller"),
        (_operation(backends=[{"urls": ["http://h"], "weight": 0}]), "no backend with a weight"),
        (_operation(backends=[{"urls": ["http://h#0"]}]), "without an endpoint"),
        (_operation(backends=[{"urls": ["http://h", "https://i"]}]), "both http and https"),
        (_operation(backends=[{"urls": ["http://h_!"]}]), "neither an address nor a host"),
        (_operation(backends=[{"urls": ["http://h"], "base_path": "/a?b"}]), "the base path"),
        (
            _operation(backends=[{"urls": ["http://h"], "connect_timeout_ms": 0}]),
            "a connect timeout of 0",
        ),
    ],
)  # fmt: skip
def test_an_operation_that_envoy_cannot_serve_is_found(bad: DeployedApi, says: str) -> None:
    findings = check(bad)

    assert [f.pointer for f in findings] == ["/operations/0"]
    assert says in findings[0].detail


@pytest.mark.parametrize(
    ("bad", "pointer", "says"),
    [
        (_orders(api="a\nb", deployment="d"), "", "the API's name 'a\\nb': has a line break"),
        (_orders(context="/orders/{id}"), "/context", "not one or more literal segments"),
        (_orders(context="/orders/.."), "/context", "'..'"),
        (_orders(hosts=[]), "/hosts", "without a host"),
        (_orders(hosts=["*", "a b"]), "/hosts/1", "the host 'a b'"),
        (_orders(operations=[]), "/operations", "without operations"),
        (_orders(sandbox_hosts=["s.test"]), "/sandbox_backends", "no backend with a weight"),
        (
            _orders(sandbox_hosts=["*"], sandbox_backends=[{"urls": ["http://h"]}]),
            "/sandbox_hosts/0",
            "also a host of the API itself",
        ),
    ],
)  # fmt: skip
def test_a_field_of_an_api_that_envoy_cannot_serve_is_found_with_its_place(
    bad: DeployedApi, pointer: str, says: str
) -> None:
    findings = check(bad)

    assert [f.pointer for f in findings] == [pointer]
    assert says in findings[0].detail


def test_all_of_it_is_found_at_once() -> None:
    bad = _orders(
        hosts=["a b"],
        operations=[
            {"method": "GET", "path": "/a", "policies": [{"name": "jwt-auth"}, {"name": "opa"}]},
            {"method": "GET", "path": "/b"},
            {
                "method": "BREW",
                "path": "/..",
                "policies": [{"name": "set-headers", "params": _headers(1, 2)}],
            },
        ],
    )

    assert [f.pointer for f in check(bad)] == ["/hosts/0"] + ["/operations/0"] * 2 + ["/operations/2"] * 4


def test_translating_raises_all_that_is_found_in_an_api() -> None:
    bad = _policy("jwt-auth", {})

    with pytest.raises(UnsupportedError) as raised:
        translate(settings(), bad)
    assert raised.value.findings == check(bad)


def test_a_policys_parameters_may_be_anything_without_breaking_the_check() -> None:
    for params in (
        {"request": 1},
        {"request": {"headers": [None]}},
        {"allowedOrigins": [1]},
        {"response": []},
    ):
        for name in ("set-headers", "remove-headers", "cors"):
            route = replace(_orders().routes[0], policies=(Policy(name, params),))
            assert check(replace(_orders(), routes=(route,)))


def _with_condition(condition: str) -> DeployedApi:
    """A policy of the API, which all its routes have."""
    params = _headers({"name": "x", "value": "y"})
    policy = Policy("set-headers", params, condition, "/policies/0")
    plain = _orders(operations=[{"method": "GET", "path": "/a"}, {"method": "GET", "path": "/b"}])
    return replace(plain, routes=tuple(replace(route, policies=(policy,)) for route in plain.routes))


def test_a_policy_with_a_condition_is_found_once_at_the_condition_with_the_way_out() -> None:
    (finding,) = check(_with_condition("request.method == 'GET'"))

    assert (finding.pointer, finding.only_new) == ("/policies/0/condition", True)
    assert "the condition of the policy set-headers: Envoy gateways do not evaluate" in finding.detail
    assert "without it the policy applies to every request" in finding.detail


def test_an_api_that_serves_with_a_condition_is_translated_as_before() -> None:
    serving, plain = _with_condition("request.method == 'GET'"), _with_condition("")

    assert translate(settings(), serving) == translate(settings(), plain)
