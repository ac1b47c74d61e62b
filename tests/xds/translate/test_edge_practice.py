"""How the gateway treats odd requests, failing upstreams and too many of either."""

import json
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.signalbox.envoy.held_upstream import held_upstream
from tests.support.calls import until
from tests.xds.translate.inputs import api, api_entries, settings
from tests.xds.translate.traffic import Gateway, echo, envoy
from xds.translate import listener_entries

pytestmark = pytest.mark.usefixtures("envoy")

NOBODY = "http://127.0.0.1:1"
"""A closed port."""


@contextmanager
def _gateway(directory: Path, apis: dict[str, list[str]], **fields: Any) -> Iterator[Gateway]:
    """Serves `GET` and `POST /<name>/x` for each name and its URLs."""
    operation = {"path": "/x"} | fields.pop("operation", {})
    backend = fields.pop("backend", {})
    gateway = settings(**fields)
    entries = list(listener_entries(gateway, 1))
    for name, urls in apis.items():
        one = api(
            api=name,
            context=f"/{name}",
            backends=[{"urls": urls} | backend],
            operations=[operation | {"method": "GET"}, operation | {"method": "POST"}],
        )
        entries += api_entries(gateway, name, [one], 1)
    with envoy(entries, directory) as started:
        yield started


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with (
        echo("one") as one,
        _garbage() as garbage,
        _gateway(
            tmp_path_factory.mktemp("envoy"),
            {
                "shop": [f"http://127.0.0.1:{one}"],
                "half": [f"http://127.0.0.1:{one}", NOBODY],
                "down": [NOBODY],
                "garbage": [f"http://127.0.0.1:{garbage}"],
            },
        ) as started,
    ):
        yield started


@contextmanager
def _garbage() -> Iterator[int]:
    """An upstream whose answers are no HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65_536)
                    connection.sendall(b"this is no HTTP\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("path", ["/other/..%2fshop/x", "/shop%2Fx", "/shop%5cx"])
def test_an_escaped_slash_is_refused(ask: Gateway, path: str) -> None:
    answer = ask("GET", path)

    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_escaped_slash_is_redirected_or_decoded_where_the_gateway_says_so(tmp_path: Path) -> None:
    with echo("one") as one:
        apis = {"shop": [f"http://127.0.0.1:{one}"]}
        for name, status in (("redirect", 307), ("decode", 200)):
            (tmp_path / name).mkdir()
            with _gateway(tmp_path / name, apis, escaped_slashes=name) as ask:
                answer = ask("GET", "/shop%2Fx")
                assert answer.status == status
                assert answer.headers.get("location", "/shop/x") == "/shop/x"


def _underscore(gateway: Gateway) -> tuple[int, bool]:
    """The status of a request with a header that has an underscore, and whether the upstream saw it."""
    connection = HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    connection.request("GET", "/shop/x", headers={"x_forwarded_host": "forged"})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, b"x_forwarded_host" in body


def test_a_header_with_an_underscore_is_refused(ask: Gateway) -> None:
    assert _underscore(ask) == (400, False)


def test_a_header_with_an_underscore_is_dropped_or_passes_where_the_gateway_says_so(tmp_path: Path) -> None:
    with echo("one") as one:
        apis = {"shop": [f"http://127.0.0.1:{one}"]}
        for name, seen in (("drop", False), ("allow", True)):
            (tmp_path / name).mkdir()
            with _gateway(tmp_path / name, apis, underscore_headers=name) as ask:
                assert _underscore(ask) == (200, seen)


def test_a_trusted_proxy_says_where_a_request_came_from(tmp_path: Path) -> None:
    with echo("one") as one:
        apis = {"shop": [f"http://127.0.0.1:{one}"]}
        with _gateway(tmp_path, apis, trusted_proxies=1) as ask:
            seen = ask(
                "GET",
                "/shop/x",
                x_forwarded_host="shop.test",
                x_forwarded_proto="https",
                x_signalbox_tenant="x",
            ).json["headers"]

    assert seen["x-forwarded-host"] == "shop.test"
    assert seen["x-forwarded-proto"] == "https"
    assert "x-signalbox-tenant" not in seen


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_that_no_upstream_has_seen_is_sent_to_another_host(ask: Gateway, method: str) -> None:
    assert {ask(method, "/half/x").status for _ in range(40)} == {200}


def test_retries_can_be_switched_off(tmp_path: Path) -> None:
    with echo("one") as one:
        apis = {"half": [f"http://127.0.0.1:{one}", NOBODY]}
        with _gateway(tmp_path, apis, operation={"retries": 0}) as ask:
            assert {ask("GET", "/half/x").status for _ in range(40)} == {200, 503}


def test_an_answer_that_is_no_http_is_a_problem(ask: Gateway) -> None:
    answer = ask("GET", "/garbage/x")

    assert answer.status == 502
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == 502


def test_an_upstream_says_how_many_requests_it_takes_at_a_time(tmp_path: Path) -> None:
    with held_upstream() as upstream:
        apis = {"shop": [f"http://127.0.0.1:{upstream.port}"]}
        with _gateway(tmp_path, apis, backend={"max_in_flight": 1}) as ask:
            got: list[tuple[int, str]] = []

            def one() -> None:
                answer = ask("GET", "/shop/x")
                got.append((answer.status, answer.headers.get("content-type", "")))

            # One is with the upstream, as many wait.
            asking = [threading.Thread(target=one) for _ in range(3)]
            for thread in asking:
                thread.start()
            until(lambda: len(got) > 0, "the answer to the request that is too many")
            upstream.release.set()
            for thread in asking:
                thread.join()

    assert got[0] == (503, "application/problem+json")
    # While the connection is made, one request waits for it and another one is too many already.
    assert got[-1][0] == 200


def _lines(gateway: Gateway, count: int) -> list[dict[str, Any]]:
    """The access log once it has so many lines."""

    def read() -> list[dict[str, Any]]:
        lines = gateway.log.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    until(lambda: len(read()) >= count, f"{count} lines in the access log")
    return read()


def test_a_local_reply_of_the_gateway_is_logged_with_the_reason(tmp_path: Path) -> None:
    with echo("one") as one:
        apis = {"shop": [f"http://127.0.0.1:{one}"], "down": [NOBODY]}
        with _gateway(tmp_path, apis, probe_secret="secret") as ask:
            ask("GET", "/shop/x")
            ask("GET", "/shop/x", x_answer="503")
            ask("GET", "/shop", x_signalbox_probe="secret")
            ask("GET", "/nobody/x?token=hush")
            ask("DELETE", "/shop/x")
            ask("GET", "/down/x")
            lines = _lines(ask, 3)

    assert [(line["path"], line["status"], line["flags"]) for line in lines] == [
        ("/nobody/x", 404, "NR"),
        ("/shop/x", 405, "-"),
        ("/x", 503, "URX,UF"),
    ]
    assert [line["api"] for line in lines] == [None, "shop@1", "down@1"]
    assert [line["reason"].partition("{")[0] for line in lines] == [
        "route_not_found",
        "direct_response",
        "upstream_reset_before_response_started",
    ]
    assert all(line["request"] for line in lines)


def _metric_names(gateway: Gateway) -> set[str]:
    url = f"http://127.0.0.1:{gateway.admin}/stats/prometheus"
    with urllib.request.urlopen(url, timeout=60) as response:
        text = response.read().decode()
    return {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}


def test_the_names_of_metrics_hold_no_name_of_an_api_or_upstream(ask: Gateway) -> None:
    assert ask("GET", "/shop/x").status == 200

    names = _metric_names(ask)

    assert "envoy_cluster_upstream_rq_total" in names
    assert [name for name in names if "127" in name or "organizations" in name] == []
