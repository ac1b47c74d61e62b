"""A scope is offered once its route configuration is there: an Envoy that starts would wait for it."""

import pytest

from gateways.config_resource import ConfigResource, content_version
from xds.scopes import route_name, routes_of, scope_name
from xds.store import ResourceStore
from xds.translate.scopes import scope_body
from xds.types import ROUTES, SCOPED_ROUTES

GATEWAY = "organizations/acme/gateways/edge"


def scope(group: str) -> ConfigResource:
    body = scope_body(GATEWAY, group)
    return ConfigResource(
        GATEWAY, "envoy", SCOPED_ROUTES, scope_name(GATEWAY, group), content_version(body), 1, body
    )


def routes(group: str) -> ConfigResource:
    return ConfigResource(GATEWAY, "envoy", ROUTES, route_name(GATEWAY, group), "v1", 1, b"routes")


def removed(entry: ConfigResource) -> ConfigResource:
    return ConfigResource(entry.gateway, entry.kind, entry.type, entry.name, "", 2, b"")


def offered(store: ResourceStore) -> list[str]:
    return store.names(GATEWAY, SCOPED_ROUTES)


def test_a_scope_names_its_route_configuration():
    assert routes_of(scope("orders")) == (ROUTES, route_name(GATEWAY, "orders"))
    assert routes_of(routes("orders")) is None
    assert routes_of(removed(scope("orders"))) is None


@pytest.mark.parametrize("body", [b"", b"\x0a", b"\x0a\xff", b"text", b"\xff" * 20])
def test_a_body_that_is_no_scope_names_nothing(body: bytes):
    entry = ConfigResource(GATEWAY, "envoy", SCOPED_ROUTES, "s", "v", 1, body)
    assert routes_of(entry) is None


def test_a_scope_without_its_route_configuration_is_not_offered():
    store = ResourceStore()
    store.apply([scope("orders"), scope("users"), routes("users")])
    assert offered(store) == [scope("users").name]
    assert store.waiting() == [scope("orders")]
    assert store.entry(GATEWAY, SCOPED_ROUTES, scope("orders").name) is None


def test_it_is_offered_as_soon_as_its_route_configuration_comes():
    store = ResourceStore()
    store.apply([scope("orders")])
    before = store.gateway(GATEWAY).seq
    store.apply([routes("orders")])
    assert offered(store) == [scope("orders").name]
    assert [stored.name for stored in store.gateway(GATEWAY).table(SCOPED_ROUTES).since(before)] == offered(
        store
    )
    assert store.waiting() == []


def test_a_scope_that_is_removed_meanwhile_does_not_come_back():
    store = ResourceStore()
    store.apply([scope("orders")])
    store.apply([removed(scope("orders"))])
    store.apply([routes("orders")])
    assert offered(store) == []


def test_both_removed_in_one_put_are_gone():
    store = ResourceStore()
    store.apply([scope("orders"), routes("orders")])
    store.apply([removed(scope("orders")), removed(routes("orders"))])
    assert offered(store) == store.names(GATEWAY, ROUTES) == []
