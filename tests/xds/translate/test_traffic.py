"""What callers get from a real Envoy that runs what the translator makes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.xds.translate.inputs import DATA, ONE_GROUP, api, api_entries, parse_input, settings, split_entries
from tests.xds.translate.traffic import Answer, Gateway, echo, envoy
from xds.translate import listener_entries

pytestmark = pytest.mark.usefixtures("envoy")

SECRET = "probe-secret"


@pytest.fixture(scope="module", params=[0, ONE_GROUP, 1], ids=["whole", "split", "in groups"])
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """With the units as they are, with each of them split, and with groups of parts."""
    with echo("one") as one, echo("two") as two:
        written = (DATA / "in" / "traffic.yaml").read_text(encoding="utf-8")
        given = parse_input(written.replace(":9001", f":{one}").replace(":9002", f":{two}"))
        entries = given.split(request.param) if request.param else given.entries
        with envoy(entries, tmp_path_factory.mktemp("envoy")) as gateway:
            yield gateway


@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        ("/orders/v1", "/base"),
        ("/orders/v1/", "/base/"),
        ("/orders/v1/items", "/base/items"),
        ("/orders/v1/items?a=1&b=/x", "/base/items?a=1&b=/x"),
        ("/orders/v1/items/7", "/base/items/7"),
        ("/orders/v1/items/7?q=1", "/base/items/7?q=1"),
        ("/orders/v1/items/7/lines/9", "/base/items/7/lines/9"),
        ("/orders/v1/files", "/base/files"),
        ("/orders/v1/files/a/b.txt", "/base/files/a/b.txt"),
        ("/orders/v1/users/1/files/a/b", "/base/users/1/files/a/b"),
        ("/orders/v1/a.b", "/base/a.b"),
        ("/orders/v1/caf%C3%A9", "/base/caf%C3%A9"),
        ("/plain", "/"),
        ("/plain/", "/"),
        ("/plain?q=1", "/?q=1"),
        ("/plain/x/y", "/x/y"),
        ("/plain/p/1", "/p/1"),
        ("/orders/v1/deep", "/"),
        ("/orders/v1/deep/er?q=1", "/er?q=1"),
    ],
)
def test_the_context_comes_off_and_the_base_path_in_front(ask: Gateway, asked: str, seen: str) -> None:
    answer = ask("GET", asked)

    assert answer.status == 200
    assert answer.path == seen


@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        ("/other/../orders/v1/items", "/base/items"),
        ("//orders//v1///items", "/base/items"),
        ("/other/%2e%2e/orders/v1/items", "/base/items"),
        ("/orders/v1/x/../items", "/base/items"),
    ],
)
def test_a_crooked_path_gets_the_api_it_really_names(ask: Gateway, asked: str, seen: str) -> None:
    assert ask("GET", asked).path == seen


def test_a_caller_cannot_choose_the_scope_and_upstreams_do_not_see_it(ask: Gateway) -> None:
    answer = ask("GET", "/orders/v1/items", x_signalbox_scope="/plain/x")

    assert answer.path == "/base/items"
    assert "x-signalbox-scope" not in answer.json["headers"]


@pytest.mark.parametrize(
    "path", ["/orders/v1/nothing", "/orders/v1/items/", "/orders/v1/itemsy", "/orders/v1/axb"]
)
def test_an_unknown_path_of_an_api_is_a_problem(ask: Gateway, path: str) -> None:
    answer = ask("GET", path)

    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == 404
    assert answer.headers["x-signalbox-revision"] == "orders@3"


@pytest.mark.parametrize("path", ["/", "/nobody/x", "/orders", "/orders/v2/items", "/ordersv1"])
def test_a_path_of_no_api_is_a_problem(ask: Gateway, path: str) -> None:
    answer = ask("GET", path)

    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == 404
    assert "x-signalbox-revision" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/orders/v1/items", "GET, POST"),
        ("POST", "/orders/v1/items/7", "GET"),
        ("DELETE", "/orders/v1/items/special", "GET, POST"),
        ("POST", "/orders/v1/files/x", "GET"),
        ("OPTIONS", "/orders/v1/items", "GET, POST"),
    ],
)
def test_another_method_of_a_known_path_is_answered_with_the_allowed_ones(
    ask: Gateway, method: str, path: str, allow: str
) -> None:
    answer = ask(method, path)

    assert answer.status == 405
    assert answer.headers["allow"] == allow
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == 405


def test_a_more_general_operation_is_preferred_to_405(ask: Gateway) -> None:
    assert ask("GET", "/orders/v1/items/special").path == "/base/items/special"


def test_operations_are_distinguished_by_headers(ask: Gateway) -> None:
    assert ask("GET", "/orders/v1/by-header", x_kind="v12").headers["x-matched"] == "regex"
    plain = ask("GET", "/orders/v1/by-header", x_kind="plain")
    assert plain.status == 200
    assert "x-matched" not in plain.headers
    assert ask("GET", "/orders/v1/by-header").status == 405


def test_headers_are_set_as_written_and_removed(ask: Gateway) -> None:
    answer = ask("GET", "/orders/v1/headers", x_added="mine", x_secret="s")

    assert answer.json["headers"]["x-added"] == "100%REQ(x)%"
    assert "x-secret" not in answer.json["headers"]
    assert answer.headers["x-answer-added"] == "50% off"
    assert "x-from-upstream" not in answer.headers


def test_envoy_says_nothing_of_itself(ask: Gateway) -> None:
    answer = ask("GET", "/orders/v1/items", x_envoy_upstream_rq_timeout_ms="1")

    assert not [name for name in answer.headers if name.startswith("x-envoy")]
    assert "x-envoy-upstream-rq-timeout-ms" not in answer.json["headers"]


def test_traffic_is_shared_by_weight(ask: Gateway) -> None:
    answers = [ask("GET", "/split/same").json["upstream"] for _ in range(400)]

    assert 0.62 < answers.count("one") / 400 < 0.88


def test_arms_with_other_base_paths_have_their_own_rewrites(ask: Gateway) -> None:
    seen = [(a.json["upstream"], a.path) for a in (ask("GET", "/split/differing") for _ in range(400))]

    assert set(seen) == {("one", "/v1/differing"), ("two", "/v2/differing"), ("two", "/v3/differing")}
    assert 0.37 < seen.count(("two", "/v2/differing")) / 400 < 0.63
    assert 0.12 < seen.count(("one", "/v1/differing")) / 400 < 0.38


def _preflight(ask: Gateway, origin: str, method: str) -> Answer:
    return ask("OPTIONS", "/web/open", origin=origin, access_control_request_method=method)


def test_a_preflight_gets_the_policy_of_the_operation_it_asks_for(ask: Gateway) -> None:
    allowed = _preflight(ask, "https://app.test", "GET")
    assert allowed.status == 200
    assert allowed.headers["access-control-allow-origin"] == "https://app.test"
    assert allowed.headers["access-control-allow-methods"] == "GET"
    assert allowed.headers["access-control-allow-headers"] == "x-token"
    assert allowed.headers["access-control-max-age"] == "600"
    assert allowed.headers["access-control-allow-credentials"] == "true"

    other = _preflight(ask, "https://a.other.test", "PUT")
    assert other.headers["access-control-allow-methods"] == "PUT"
    for origin, method in (
        ("https://app.test", "PUT"),
        ("https://evil.test", "GET"),
        ("https://app.test", "DELETE"),
    ):
        assert "access-control-allow-origin" not in _preflight(ask, origin, method).headers


def test_an_answer_carries_the_cors_headers(ask: Gateway) -> None:
    answer = ask("GET", "/web/open", origin="https://app.test")
    assert answer.headers["access-control-allow-origin"] == "https://app.test"
    assert answer.headers["access-control-expose-headers"] == "x-total"
    assert "access-control-allow-origin" not in ask("GET", "/web/open", origin="https://evil.test").headers


@pytest.mark.parametrize(
    ("host", "path", "seen"),
    [
        ("api.example.com", "/hosted/x", "/exact/x"),
        ("api.example.com:8000", "/hosted/x", "/exact/x"),
        ("other.example.com", "/hosted/x", "/wild/x"),
        ("sandbox.example.com", "/hosted/x", "/sandbox/x"),
        ("api.example.com", "/hosted/any/x", "/any/x"),
        ("elsewhere.test", "/hosted/any/x", "/any/x"),
    ],
)
def test_the_host_chooses_the_api(ask: Gateway, host: str, path: str, seen: str) -> None:
    assert ask("GET", path, host).path == seen


def test_an_unknown_host_gets_404(ask: Gateway) -> None:
    assert ask("GET", "/hosted/x", "elsewhere.test").status == 404


def test_groups_of_hosts_and_of_paths_take_requests_to_their_apis(tmp_path: Path) -> None:
    hosts = [*(f"s{i}.a.test" for i in range(20)), "b.test", "ab.test", "*.b.test", "*.x.b.test", "*"]
    contexts = ["/shop", "/shop/a", "/shop/a/b", "/shop/ab", "/shop/b%20c", "/shop/v1/a", "/shop/v2/a"]
    for layout in ([("/shop", host) for host in hosts], [(context, "*") for context in contexts]):
        with echo("one") as one:
            given = [
                api(
                    api=f"n{i}", context=context.replace("%20", " "), hosts=[host],
                    backends=[{"urls": [f"http://127.0.0.1:{one}"], "base_path": f"/n{i}"}],
                    operations=[{"method": "GET", "path": "/*"}],
                )
                for i, (context, host) in enumerate(layout)
            ]  # fmt: skip
            entries = split_entries(settings(), "shop", given, 1, most=2)
            assert sum("||" in entry.name for entry in entries) > 4
            by_name = {entry.key: entry for entry in (*listener_entries(settings(), 1), *entries)}
            with envoy((*by_name.values(),), tmp_path) as ask:
                for i, (context, host) in enumerate(layout):
                    for port in ("", ":8080"):
                        for path in (context, f"{context}/x?q=/shop/a/b"):
                            answer = ask("GET", path, host.replace("*", "any") + port)
                            assert (answer.status, answer.path.split("/")[1]) == (200, f"n{i}"), host
                assert ask("POST", "/shop/x", "b.test").status == 405
                assert ask("GET", "/shopping", "b.test").status == 404
                if layout[0][1] != "*":
                    last = f"n{len(layout) - 1}"
                    for host in ("s20.a.test", "cab.test", "b.tests", "test", "S1.A.TEST.other"):
                        assert ask("GET", "/shop/x", host).path.startswith(f"/{last}/")
                    assert ask("GET", "/shop/x", "S1.A.TEST").path.startswith("/n1/")


def test_an_upstream_with_a_name_gets_its_own_host_and_an_address_the_callers(ask: Gateway) -> None:
    named = ask("GET", "/named/x").json["headers"]
    assert named["host"].startswith("localhost:")
    assert named["x-forwarded-host"] == "gateway.test"
    assert ask("GET", "/plain").json["headers"]["host"] == "gateway.test"


def test_an_upstream_that_cannot_be_reached_is_a_problem_without_its_address(ask: Gateway) -> None:
    answer = ask("GET", "/retried/x")

    assert answer.status == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == 503
    assert b"127.0.0.1" not in answer.body


def test_an_upstreams_own_error_passes_as_it_is(ask: Gateway) -> None:
    answer = ask("GET", "/orders/v1/items", x_answer="503")

    assert answer.status == 503
    assert answer.json["upstream"] == "one"


def test_answers_name_the_revision(ask: Gateway) -> None:
    assert ask("GET", "/orders/v1/items").headers["x-signalbox-revision"] == "orders@3"
    assert ask("GET", "/orders/v1/deep").headers["x-signalbox-revision"] == "deep@1"


def test_the_probe_answers_with_the_serving_revisions_to_the_holder_of_the_secret(ask: Gateway) -> None:
    answer = ask("GET", "/orders/v1", x_signalbox_probe=SECRET)
    assert answer.status == 204
    assert answer.headers["x-signalbox-revision"] == "orders@3"
    assert answer.headers["x-signalbox-deployment"] == "d-7"

    guessed = ask("GET", "/orders/v1", x_signalbox_probe="guess")
    assert guessed.status == 200
    assert "x-signalbox-deployment" not in guessed.headers


def test_the_revision_header_can_be_switched_off(tmp_path_factory: pytest.TempPathFactory) -> None:
    with echo("one") as one:
        quiet = settings(revision_header=False, probe_secret=SECRET)
        one_api = api(
            api="quiet",
            context="/quiet",
            backends=[{"urls": [f"http://127.0.0.1:{one}"]}],
            operations=[{"method": "GET", "path": "/x"}],
        )
        entries = [*listener_entries(quiet, 1), *api_entries(quiet, "quiet", [one_api], 1)]
        with envoy(entries, tmp_path_factory.mktemp("quiet")) as ask:
            for path in ("/quiet/x", "/quiet/none"):
                assert "x-signalbox-revision" not in ask("GET", path).headers
            assert ask("GET", "/quiet", x_signalbox_probe=SECRET).headers["x-signalbox-revision"] == "quiet@1"
