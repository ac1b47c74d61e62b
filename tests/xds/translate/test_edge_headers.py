"""Headers at the gateway's edge: what a caller or an upstream sends is not taken for the gateway's own."""

import http.client
import socket
from collections.abc import Iterator

import pytest

from tests.support.hang_guard import HANG_SECONDS
from tests.xds.translate.inputs import api, api_entries, settings
from tests.xds.translate.traffic import Gateway, echo, envoy
from xds.translate import listener_entries

pytestmark = pytest.mark.usefixtures("envoy")

SECRET = "probe-secret"


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with echo("one") as one:
        gateway = settings(probe_secret=SECRET, revision_header=False)
        shop = api(
            api="shop",
            context="/shop",
            backends=[{"urls": [f"http://127.0.0.1:{one}"]}],
            operations=[
                {"method": "GET", "path": "/items"},
                {
                    "method": "GET",
                    "path": "/configured",
                    "policies": [
                        {
                            "name": "set-headers",
                            "params": {
                                "request": {
                                    "headers": [
                                        {"name": "forwarded", "value": "host=shop.test"},
                                        {"name": "x-forwarded-host", "value": "shop.test"},
                                    ]
                                }
                            },
                        }
                    ],
                },
            ],
        )
        entries = [*listener_entries(gateway, 1), *api_entries(gateway, "shop", [shop], 1)]
        with envoy(entries, tmp_path_factory.mktemp("envoy")) as started:
            yield started


def test_a_caller_cannot_choose_the_scope_by_the_original_path(ask: Gateway) -> None:
    answer = ask("GET", "/shop/items", x_envoy_original_path="/elsewhere/items")

    assert answer.status == 200
    assert answer.path == "/items"


@pytest.mark.parametrize(
    "name",
    [
        "x-signalbox-scope",
        "x-signalbox-probe",
        "x-signalbox-tenant",
        "X-Signalbox-Revision",
        "forwarded",
        "x-forwarded-host",
    ],
)
def test_a_callers_claim_does_not_reach_the_upstream(ask: Gateway, name: str) -> None:
    answer = ask("GET", "/shop/items", **{name: "forged"})

    assert answer.status == 200
    assert name.lower() not in answer.json["headers"]


def test_a_header_set_by_a_policy_reaches_the_upstream(ask: Gateway) -> None:
    seen = ask("GET", "/shop/configured", forwarded="for=me", x_signalbox_tenant="two").json["headers"]

    assert seen["forwarded"] == "host=shop.test"
    assert seen["x-forwarded-host"] == "shop.test"
    assert "x-signalbox-tenant" not in seen


@pytest.mark.parametrize("name", ["x-signalbox-revision", "x-signalbox-deployment", "x-signalbox-anything"])
def test_an_upstreams_claim_does_not_reach_the_caller(ask: Gateway, name: str) -> None:
    answer = ask("GET", "/shop/items", x_answer_header=name)

    assert answer.status == 200
    assert answer.headers["x-from-upstream"] == "1"
    assert name not in answer.headers


def test_the_probe_is_answered(ask: Gateway) -> None:
    answer = ask("GET", "/shop", x_signalbox_probe=SECRET)

    assert answer.status == 204
    assert answer.headers["x-signalbox-deployment"] == "d-shop"


def test_a_request_with_two_hosts_is_refused(ask: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", ask.port), timeout=HANG_SECONDS) as connection:
        connection.sendall(b"GET /shop/items HTTP/1.1\r\nhost: a.test\r\nhost: b.test\r\n\r\n")
        response = http.client.HTTPResponse(connection)
        response.begin()

    assert response.status == 400
