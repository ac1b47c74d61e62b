"""One API of three operations, from its specification to bytes."""

import time

from bench.figure import Figure, median
from gateways.compiler import compile_api
from gateways.model import GatewaySettings
from schemas.aggregates.api import ApiSpec
from xds.translate import translate, unit_entries

GATEWAY = GatewaySettings("organizations/acme/gateways/local", "envoy", "127.0.0.1", 8000, True, "secret")


def specification(name: str, port: int) -> ApiSpec:
    return ApiSpec.model_validate(
        {
            "context": f"/{name}",
            "upstreams": [{"name": "main", "endpoints": [{"url": f"http://127.0.0.1:{port}"}]}],
            "backends": [{"upstream": "main"}],
            "operations": [
                {"method": "GET", "path": "/items"},
                {"method": "POST", "path": "/items"},
                {"method": "GET", "path": "/items/{id}"},
            ],
        }
    )


def run(count: int = 1_000) -> list[Figure]:
    specs = [specification(f"api-{i}", 1_024 + i) for i in range(count)]
    times: list[float] = []
    for i, spec in enumerate(specs):
        began = time.perf_counter()
        api = compile_api("acme", f"api-{i}", 1, f"d-{i}", spec)
        entries = unit_entries(GATEWAY, f"api-{i}", [translate(GATEWAY, api)], i)
        times.append((time.perf_counter() - began) * 1000)
        assert len(entries) >= 3
    return [
        Figure("one API of 3 operations to bytes, each with its own upstream, p50", median(times), "ms", 1)
    ]
