"""Which entries an API costs: names, versions, what they need and whose they are."""

from typing import Any

import pytest

from gateways.config_resource import DeploymentRef, content_version
from gateways.model import DeployedApi, GatewaySettings
from tests.xds.translate.inputs import SUBJECT, api, api_entries, settings
from tests.xds.translate.proxy import resource
from xds.translate import check, clusters, listener_entries
from xds.types import CLUSTER, LISTENER, ROUTES, SCOPED_ROUTES

ONE, OTHER = "http://10.0.0.1:8080", "http://10.0.0.2:8080"


def _api(name: str, context: str, url: str = ONE, **changes: Any) -> DeployedApi:
    operations = [
        {"method": "GET", "path": "/items"},
        {"method": "POST", "path": "/items"},
        {"method": "GET", "path": "/items/{id}"},
    ]
    return api(
        **{"api": name, "context": context, "backends": [{"urls": [url]}], "operations": operations} | changes
    )


def cluster_names(of: GatewaySettings, *apis: DeployedApi) -> list[str]:
    return [e.name for e in api_entries(of, "x", apis, 1) if e.type == CLUSTER]


def test_names_are_paths_below_the_gateway_and_those_in_the_bodies() -> None:
    entries = (
        *listener_entries(settings(), 7),
        *api_entries(settings(), "orders", [_api("o", "/orders/v1")], 7),
    )

    assert {(e.type, e.name) for e in entries} == {
        (LISTENER, f"{SUBJECT}/listeners/main"),
        (CLUSTER, cluster_names(settings(), _api("o", "/orders/v1"))[0]),
        (SCOPED_ROUTES, f"{SUBJECT}/scopes/orders"),
        (ROUTES, f"{SUBJECT}/routes/orders"),
    }
    for entry in entries:
        assert resource(entry)["name"] == entry.name
        assert entry.version == content_version(entry.body)
        assert (entry.gateway, entry.kind, entry.position) == (SUBJECT, "envoy", 7)


def test_the_same_values_are_the_same_bytes() -> None:
    first = api_entries(settings(), "orders", [_api("o", "/orders")], 1)
    again = api_entries(settings(), "orders", [_api("o", "/orders")], 2)

    assert [e.version for e in first] == [e.version for e in again]


def test_the_order_of_the_apis_changes_nothing() -> None:
    apis = [_api("a", "/x/a"), _api("b", "/x/b"), _api("c", "/x/a/c"), _api("d", "/x/d", hosts=["h.test"])]

    versions = {e.name: e.version for e in api_entries(settings(), "x", apis, 1)}
    assert versions == {e.name: e.version for e in api_entries(settings(), "x", apis[::-1], 1)}


def test_routes_need_their_clusters_and_nothing_else_needs_anything() -> None:
    apis = [_api("a", "/x/a"), _api("b", "/x/b", OTHER)]
    needed = {e.type: e.requires for e in api_entries(settings(), "x", apis, 1)}

    names = cluster_names(settings(), *apis)
    assert len(names) == 2
    assert needed == {CLUSTER: (), SCOPED_ROUTES: (), ROUTES: tuple((CLUSTER, name) for name in names)}


def test_apis_with_the_same_upstream_share_a_cluster_that_names_both() -> None:
    apis = [_api("a", "/x/a", revision=4), _api("b", "/x/b"), _api("c", "/x/c", OTHER)]
    entries = api_entries(settings(), "x", apis, 1)
    a, b, c = (
        DeploymentRef("d-a", "a", 4, "/x/a"),
        DeploymentRef("d-b", "b", 1, "/x/b"),
        DeploymentRef("d-c", "c", 1, "/x/c"),
    )

    assert [e.deployments for e in entries if e.type == CLUSTER] == [(a, b), (c,)]
    assert [e.deployments for e in entries if e.type == ROUTES] == [(a, b, c)]


def test_having_the_scope_says_nothing_about_a_deployment() -> None:
    assert [
        e.deployments for e in api_entries(settings(), "x", [_api("a", "/x/a")], 1) if e.type == SCOPED_ROUTES
    ] == [()]


def test_a_changed_upstream_is_another_cluster() -> None:
    before, after = _api("a", "/a"), _api("a", "/a", OTHER)

    assert set(cluster_names(settings(), before)).isdisjoint(cluster_names(settings(), after))
    slower = _api("a", "/a", backends=[{"urls": [ONE], "connect_timeout_ms": 9}])
    assert cluster_names(settings(), _api("b", "/b")) == cluster_names(settings(), before)
    assert set(cluster_names(settings(), slower)).isdisjoint(cluster_names(settings(), before))


def test_an_upstream_of_the_sandbox_is_a_cluster_of_the_api() -> None:
    one = _api("a", "/x/a", sandbox_hosts=["s.test"], sandbox_backends=[{"urls": [OTHER]}])

    assert cluster_names(settings(), one) == [
        *cluster_names(settings(), _api("a", "/x/a")),
        *cluster_names(settings(), _api("a", "/x/a", OTHER)),
    ]


def test_a_unit_without_apis_is_removed() -> None:
    entries = api_entries(settings(), "x", [], 9)

    assert [(e.type, e.body, e.deployments) for e in entries] == [(SCOPED_ROUTES, b"", ()), (ROUTES, b"", ())]


def test_the_listener_is_independent_of_apis_and_follows_the_settings() -> None:
    plain = listener_entries(settings(), 1)

    assert listener_entries(settings(probe_secret="s", revision_header=False), 1) == plain
    assert listener_entries(settings(port=8001), 1)[0].body != plain[0].body


def test_another_certificate_bundle_is_another_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    secure = _api("a", "/a", "https://h.test")
    before = cluster_names(settings(), secure)
    monkeypatch.setattr(clusters, "CA_BUNDLE", "/etc/pki/tls/certs/ca-bundle.crt")

    assert cluster_names(settings(), secure) != before
    body = resource(api_entries(settings(), "a", [secure], 1)[0])["transportSocket"]["typedConfig"]
    assert body["commonTlsContext"]["validationContext"]["trustedCa"] == {"filename": clusters.CA_BUNDLE}
    assert body["sni"] == "h.test"
    assert body["autoSniSanValidation"] is True


def test_nothing_is_wrong_with_the_apis_of_these_tests() -> None:
    assert check(_api("a", "/x/a")) == ()
