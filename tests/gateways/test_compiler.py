"""From a specification to the neutral model."""

import pytest

from gateways.compiler import compile_api, segments
from gateways.model import (
    Endpoint,
    HeaderMatch,
    Segment,
    Unsupported,
    Upstream,
    WeightedBackend,
    unsupported_text,
)
from schemas.aggregates.api import ApiSpec
from tests.commands.shop import spec


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", ()),
        ("/orders", (Segment("literal", "orders"),)),
        ("/orders/{id}", (Segment("literal", "orders"), Segment("parameter", "id"))),
        ("/files/*", (Segment("literal", "files"), Segment("tail"))),
        ("/*", (Segment("tail"),)),
    ],
)
def test_paths_become_segments(path: str, expected: tuple[Segment, ...]):
    assert segments(path) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:9000", Endpoint("http", "127.0.0.1", 9000)),
        ("http://backend", Endpoint("http", "backend", 80)),
        ("https://backend", Endpoint("https", "backend", 443)),
        ("https://[::1]:8443", Endpoint("https", "::1", 8443)),
    ],
)
def test_urls_become_endpoints(url: str, expected: Endpoint):
    (route,) = compile_api("acme", "orders", 1, "d1", spec(url=url)).routes
    assert route.backends == (WeightedBackend(Upstream((expected,))),)


def rich() -> ApiSpec:
    return spec(
        upstreams=[
            {
                "name": "main",
                "endpoints": [{"url": "http://a:1"}],
                "base_path": "/v2",
                "connect_timeout": 100,
            },
            {"name": "canary", "endpoints": [{"url": "http://b:1"}]},
        ],
        backends=[{"upstream": "main", "weight": 9}],
        policies=[{"name": "cors"}],
        resilience={"timeout": 1000, "retries": 2},
        operations=[
            {"method": "GET", "path": "/"},
            {
                "method": "POST",
                "path": "/x",
                "backends": [{"upstream": "canary"}],
                "policies": [{"name": "set-headers", "params": {"request": {}}, "condition": "c"}],
                "resilience": {"timeout": 5},
                "headers": [{"name": "x-v", "value": "1.*", "type": "RegularExpression"}],
            },
        ],
    )


def test_an_operation_inherits_the_settings_that_it_does_not_override():
    first, second = compile_api("acme", "orders", 1, "d1", rich()).routes
    main = WeightedBackend(Upstream((Endpoint("http", "a", 1),), 100), "/v2", 9)
    assert (first.backends, first.timeout_ms, first.retries) == ((main,), 1000, 2)
    assert (second.timeout_ms, second.retries) == (5, 2)
    assert second.backends == (WeightedBackend(Upstream((Endpoint("http", "b", 1),))),)
    assert second.headers == (HeaderMatch("x-v", "1.*", regex=True),)


def test_policies_say_where_they_were_written():
    first, second = compile_api("acme", "orders", 1, "d1", rich()).routes
    assert [(p.name, p.pointer) for p in first.policies] == [("cors", "/policies/0")]
    assert [(p.name, p.pointer, p.condition) for p in second.policies] == [
        ("cors", "/policies/0", ""),
        ("set-headers", "/operations/1/policies/0", "c"),
    ]


def test_an_unsupported_feature_is_reported_once_with_all_its_places():
    findings = (
        Unsupported("/operations/0", "no limits"),
        Unsupported("/operations/1", "no keys"),
        Unsupported("/operations/2", "no limits"),
    )
    assert unsupported_text(findings) == (
        "unsupported: no limits (/operations/0, /operations/2); unsupported: no keys (/operations/1)"
    )
