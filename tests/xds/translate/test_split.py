"""A unit that is split answers every request like the unit as a whole."""

import re
from collections.abc import Sequence
from typing import Any

import pytest
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac
from hypothesis import given
from hypothesis import strategies as st

from gateways.config_resource import ConfigResource, DeploymentRef
from gateways.model import DeployedApi
from tests.support.laws import examples
from tests.xds.translate.inputs import api, api_entries, settings, split_entries
from tests.xds.translate.proxy import resource
from xds.encoding import build
from xds.scopes import part_named, part_resources, routes_of
from xds.translate import part_of_api, part_of_deployment, policies
from xds.translate.policies.policy import PolicyKind, disabled_filter
from xds.translator import EnvoyTranslator
from xds.types import ROUTES, SCOPED_ROUTES

SUBJECT = settings().subject
DISPATCHING = "scope"
ADDED = "responseHeadersToAdd"

Configurations = dict[str, dict[str, Any]]


def by_scope(entries: Sequence[ConfigResource]) -> Configurations:
    """The route configurations by the key of their scope."""
    routes = {(entry.type, entry.name): resource(entry) for entry in entries if entry.type == ROUTES}
    scopes = [entry for entry in entries if entry.type == SCOPED_ROUTES]
    found: Configurations = {}
    for scope in scopes:
        key = routes_of(scope)
        assert key is not None
        found[resource(scope)["key"]["fragments"][0]["stringKey"]] = routes[key]
    return found


def answer(configurations: Configurations, host: str, path: str) -> str | None:
    """The route that Envoy finds, with that of the scope which a dispatching one leads to."""
    scope = path.split("/")[1]
    for _ in range(3):
        configuration = configurations.get(scope)
        route = matching(configuration, host, path) if configuration else None
        if configuration is None or route is None:
            return None
        if DISPATCHING not in configuration.get("typedPerFilterConfig", {}) or not route.get("name"):
            return str(route)
        scope = route["name"].split("/")[1]
    return "more scopes that dispatch than there are filters"


def matching(configuration: dict[str, Any], host: str, path: str) -> dict[str, Any] | None:
    """The first route for `GET`, in the virtual host of the longest domain that has the host. Its headers
    are those that both add to answers."""
    domains = {
        domain: virtual_host
        for virtual_host in configuration["virtualHosts"]
        for domain in virtual_host["domains"]
    }
    patterns = [host, *("*" + host[i:] for i in range(1, len(host))), "*"]
    virtual_host = next((domains[pattern] for pattern in patterns if pattern in domains), None)
    for route in virtual_host["routes"] if virtual_host else ():
        match = route["match"]
        if all(h.get("stringMatch", {}).get("exact") == "GET" for h in match.get("headers", ())):
            prefix = match.get("pathSeparatedPrefix")
            if (
                match.get("path") == path
                or ("prefix" in match and path.startswith(match["prefix"]))
                or (prefix and (path == prefix or path.startswith(f"{prefix}/")))
                or ("safeRegex" in match and re.fullmatch(match["safeRegex"]["regex"], path))
            ):
                levels = (route, virtual_host or {})
                others = {key: value for key, value in route.items() if key != ADDED}
                return {**others, ADDED: [h for level in levels for h in level.get(ADDED, ())]}
    return None


contexts = st.sampled_from(
    ("/api", "/api/a", "/api/ab", "/api/a/b", "/api/v1", "/api/v1/a", "/api/v1/a/b", "/api/b")
)
hosts = st.lists(
    st.sampled_from(("*", "*.test", "a.test", "b.test", "*.a.test", "c.a.test")), min_size=1, max_size=3,
    unique=True,
)  # fmt: skip
operations = st.lists(st.sampled_from(("/", "/items", "/{id}", "/*", "/a/*")), min_size=1, unique=True)
sandbox_hosts = st.lists(st.sampled_from(("sand.test", "*.sand.test")), max_size=1)
described = st.lists(
    st.tuples(contexts, hosts, operations, sandbox_hosts),
    min_size=1,
    max_size=6,
)
paths = st.lists(st.sampled_from(("a", "ab", "b", "v1", "items", "x")), max_size=4).map(
    lambda segments: "/" + "/".join(["api", *segments])
)
asked_hosts = st.sampled_from(
    ("a.test", "b.test", "c.a.test", "d.a.test", "other", "x.test", "sand.test", "x.sand.test")
)


def apis(described: Sequence[tuple[str, list[str], list[str], list[str]]]) -> list[DeployedApi]:
    backends = [{"urls": ["http://10.0.0.1:80"]}]
    return [
        api(
            api=f"api-{index}",
            context=context,
            hosts=on,
            backends=backends,
            operations=[{"method": "GET", "path": path} for path in paths],
            sandbox_hosts=sandbox,
            sandbox_backends=[{"urls": ["http://10.0.0.2:80"]}] if sandbox else [],
        )
        for index, (context, on, paths, sandbox) in enumerate(described)
    ]


@given(described, st.lists(st.tuples(asked_hosts, paths), min_size=1, max_size=20), st.integers(1, 6))
@examples(300)
def test_a_request_gets_the_same_route_from_a_unit_that_is_split(
    described: list[tuple[str, list[str], list[str], list[str]]], requests: list[tuple[str, str]], most: int
):
    given = apis(described)
    whole = by_scope(api_entries(settings(), "api", given, 1))
    split = by_scope(split_entries(settings(), "api", given, 1, most))
    for host, path in requests:
        assert answer(split, host, path) == answer(whole, host, path), (host, path)


def test_a_part_is_another_one_when_requests_are_found_elsewhere():
    def part(**changes: Any) -> str:
        fields = {"api": "a", "context": "/api/a", "backends": [], "operations": []} | changes
        return part_of_api("api", api(**fields)).name

    same = {part(), part(revision=2, deployment="d-2"), part(operations=[{"method": "GET", "path": "/x"}])}
    others = {
        part(hosts=["a.test"]), part(hosts=["b.test"]), part(hosts=["a.test", "b.test"]), part(api="b"),
        part(context="/api/b"), part(hosts=["a.test"], sandbox_hosts=["b.test"]),
    }  # fmt: skip
    assert len(same) == 1
    assert len(others) == 6
    assert not same & others


def test_the_part_of_an_api_with_one_host_is_known_by_its_deployment():
    for context, hosts, known in (
        ("/api/a", ["a.test"], True), ("/api/caf\u00e9/b c", ["*"], True), ("/api", ["a.test", "*"], False),
    ):  # fmt: skip
        one = api(api="a", context=context, hosts=hosts, backends=[], operations=[])
        part, ref = part_of_api("api", one), DeploymentRef("d", "a", 1, context, hosts[0])
        assert part_of_deployment("api", ref, part.name) == (part if known else None)


def test_a_unit_that_is_split_requires_its_parts_and_carries_no_deployments():
    given = apis([("/api/a", ["*"], ["/"], []), ("/api/b", ["*"], ["/"], [])])
    entries = {(entry.type, entry.name): entry for entry in split_entries(settings(), "api", given, 1)}
    parts = [part_of_api("api", one).name for one in given]

    unit = entries[ROUTES, f"{SUBJECT}/routes/api"]
    assert set(unit.requires) == {key for part in parts for key in part_resources(SUBJECT, part)}
    assert set(unit.requires) <= entries.keys()
    assert unit.deployments == ()
    assert [
        part_named(entry) for entry in entries.values() if entry.deployments and entry.type == ROUTES
    ] == parts


def test_a_policy_with_a_filter_that_is_disabled_in_the_chain_keeps_units_whole(
    monkeypatch: pytest.MonkeyPatch,
):
    assert EnvoyTranslator().split_above > 0
    kind = PolicyKind("ask", lambda params, contributions: (), (disabled_filter("ask", build(Rbac)),))
    monkeypatch.setattr(policies, "POLICIES", (kind,))
    monkeypatch.setattr("xds.translate.split.http_filters", lambda: policies.http_filters((kind,)))
    assert EnvoyTranslator().split_above < 0
