"""A policy contributes to routes, to the chain of HTTP filters and to clusters, all from its own module."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from envoy_data_plane.envoy.extensions.filters.http.ext_authz.v3 import (
    CheckSettings,
    ExtAuthz,
    ExtAuthzPerRoute,
)

from gateways.model import DeployedApi, Endpoint, Policy, UnsupportedError, Upstream
from gateways.upstream_access import upstream_access
from tests.xds.translate.inputs import api, api_entries, settings
from tests.xds.translate.proxy import resource
from xds.encoding import build
from xds.translate import check, policies, translate
from xds.translate.policies import http_filters
from xds.translate.policies.policy import Contributions, PolicyKind, disabled_filter
from xds.types import CLUSTER, ROUTES

AUTHZ = "envoy.filters.http.ext_authz"


def _apply(params: Mapping[str, Any], contributions: Contributions) -> Iterable[str]:
    cluster = contributions.cluster(Upstream((Endpoint("http", params["host"], params.get("port", 9000)),)))
    extensions = {"cluster": cluster}
    contributions.filters[AUTHZ] = build(
        ExtAuthzPerRoute, check_settings=build(CheckSettings, context_extensions=extensions)
    )
    return ()


ASK = PolicyKind("ask", _apply, filters=(disabled_filter(AUTHZ, build(ExtAuthz)),))


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(policies.BY_NAME, "ask", ASK)


def asking(**params: Any) -> DeployedApi:
    plain = api(
        api="a",
        context="/a",
        backends=[{"urls": ["http://10.0.0.1:8080"]}],
        operations=[{"method": "GET", "path": "/items"}, {"method": "GET", "path": "/free"}],
    )
    asks, free = plain.routes
    return replace(plain, routes=(replace(asks, policies=(Policy("ask", params),)), free))


def test_an_upstream_of_a_policy_is_a_cluster_that_the_routes_require():
    entries = api_entries(settings(), "a", [asking(host="10.0.0.9")], 1)

    (routes,) = (entry for entry in entries if entry.type == ROUTES)
    clusters = [entry for entry in entries if entry.type == CLUSTER]
    assert routes.requires == tuple((CLUSTER, cluster.name) for cluster in clusters)
    (asked,) = (cluster for cluster in clusters if "10.0.0.9" in cluster.name)
    assert [ref.api for ref in asked.deployments] == ["a"]


def test_a_filter_is_configured_on_the_routes_of_the_policy_alone():
    entries = api_entries(settings(), "a", [asking(host="10.0.0.9")], 1)

    (asked,) = (entry for entry in entries if "10.0.0.9" in entry.name)
    (routes,) = (resource(entry) for entry in entries if entry.type == ROUTES)
    configured = {
        route["match"].get("path"): route.get("typedPerFilterConfig", {})
        for route in routes["virtualHosts"][0]["routes"]
        if "route" in route
    }
    assert configured.keys() == {"/a/items", "/a/free"}
    settings_of_route = configured["/a/items"][AUTHZ]["checkSettings"]
    assert settings_of_route["contextExtensions"] == {"cluster": asked.name}
    assert configured["/a/free"] == {}


def test_the_filters_of_policies_stand_in_the_chain_once_and_do_nothing_by_themselves():
    (filter,) = http_filters([ASK, ASK])
    assert (filter.name, filter.disabled) == (AUTHZ, True)


def test_an_upstream_of_a_policy_that_envoy_cannot_use_is_found_with_the_operation():
    (finding,) = check(asking(host="10.0.0.9", port=0))
    assert (finding.pointer, finding.detail) == ("/operations/0", "the upstream port 0: must be 1 to 65535")


def test_an_upstream_of_a_policy_that_the_gateway_may_not_reach_is_refused():
    production = settings(access=upstream_access("production"))
    with pytest.raises(UnsupportedError, match=r"169\.254\.169\.254 is in 169\.254\.0\.0/16"):
        translate(production, asking(host="169.254.169.254"))
    assert translate(production, asking(host="10.0.0.9"))
