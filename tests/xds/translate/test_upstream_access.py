"""Addresses that a gateway denies are not asked, also when a name resolves to them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gateways.upstream_access import UpstreamAccess, own_network_ports, upstream_access
from tests.xds.translate.inputs import api, api_entries, settings
from tests.xds.translate.traffic import Gateway, echo, envoy
from xds.translate import listener_entries

pytestmark = pytest.mark.usefixtures("envoy")


@contextmanager
def _gateway(directory: Path, access: UpstreamAccess, **upstreams: str) -> Iterator[Gateway]:
    """Serves each of `upstreams` under its name."""
    gateway = replace(settings(), access=access)
    entries = list(listener_entries(gateway, 1))
    for name, url in upstreams.items():
        operations = [{"method": "GET", "path": "/x"}]
        one = api(api=name, context=f"/{name}", backends=[{"urls": [url]}], operations=operations)
        entries += api_entries(gateway, name, [one], 1)
    with envoy(entries, directory) as started:
        yield started


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with (
        echo("one") as port,
        _gateway(
            tmp_path_factory.mktemp("envoy"),
            upstream_access("production"),
            address=f"http://127.0.0.1:{port}",
            name=f"http://localhost:{port}",
            unspecified=f"http://0.0.0.0:{port}",
            mapped=f"http://[::ffff:127.0.0.1]:{port}",
        ) as started,
    ):
        yield started


@pytest.mark.parametrize("asked", ["address", "name", "unspecified", "mapped"])
def test_a_denied_address_is_not_asked(production: Gateway, asked: str) -> None:
    answer = production("GET", f"/{asked}/x")

    assert answer.status == 502
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == 502
    assert "may not" in answer.json["detail"]


@pytest.fixture(scope="module")
def development(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with (
        echo("one") as port,
        echo("own") as own,
        _gateway(
            tmp_path_factory.mktemp("envoy"),
            upstream_access("development", closed=own_network_ports("127.0.0.1", own)),
            address=f"http://127.0.0.1:{port}",
            name=f"http://localhost:{port}",
            own=f"http://127.0.0.1:{own}",
            named=f"http://localhost:{own}",
        ) as started,
    ):
        yield started


@pytest.mark.parametrize("asked", ["address", "name"])
def test_loopback_is_asked_in_development(development: Gateway, asked: str) -> None:
    assert development("GET", f"/{asked}/x").json["upstream"] == "one"


@pytest.mark.parametrize("asked", ["own", "named"])
def test_signalboxs_own_ports_are_not_asked_even_then(development: Gateway, asked: str) -> None:
    assert development("GET", f"/{asked}/x").status == 502


def test_an_upstream_allowed_by_the_gateway_is_asked(tmp_path: Path) -> None:
    access = upstream_access("production", ["127.0.0.0/8"])
    with echo("one") as port, _gateway(tmp_path, access, name=f"http://127.0.0.1:{port}") as ask:
        assert ask("GET", "/name/x").json["upstream"] == "one"
