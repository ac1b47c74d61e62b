"""Rules of APIs and of deployments."""

import pytest

from commands.api import inconsistencies
from schemas.aggregates.deployment import DeploymentStopped, DeploymentSuperseded, StopDeployment
from tests.commands.shop import DEFAULT_RESOURCES, ORG, deploy, publish, published, spec, started
from tests.commands.specification import given

SECOND = spec(url="http://127.0.0.1:9001")
CARTS = published("carts", of=spec("/carts"))


def test_publishing_makes_the_next_revision():
    given(*DEFAULT_RESOURCES).when(publish()).then(published(revision=1))
    given(*DEFAULT_RESOURCES, published()).when(publish(of=SECOND)).then(published(revision=2, of=SECOND))


def test_publishing_the_same_again_changes_nothing():
    given(*DEFAULT_RESOURCES, published()).when(publish()).then_unchanged("organizations/acme/apis/orders")


def test_an_earlier_content_is_a_new_revision():
    history = (*DEFAULT_RESOURCES, published(), published(revision=2, of=SECOND))
    given(*history).when(publish()).then(published(revision=3))


def test_every_contradiction_is_named_at_once():
    wrong = spec(
        backends=[{"upstream": "nobody"}, {"upstream": "main", "weight": 0}],
        operations=[{"method": "GET", "path": "/{id}"}, {"method": "GET", "path": "/{other}"}],
    )
    given(*DEFAULT_RESOURCES).when(publish(of=wrong)).then_rejected(
        "inconsistent", "/spec/backends/0/upstream", "/spec/operations/1"
    )


def test_an_api_has_a_host():
    given(*DEFAULT_RESOURCES).when(publish(of=spec(hosts=[]))).then_rejected("inconsistent", "/spec/hosts")


@pytest.mark.parametrize("authority", ["x:99999", "x:http", "x:0", "[::1", ":80", "user@:80"])
def test_an_upstream_is_somewhere_a_gateway_can_connect_to(authority: str):
    given(*DEFAULT_RESOURCES).when(publish(of=spec(url=f"http://{authority}"))).then_rejected(
        "inconsistent", "/spec/upstreams/0/endpoints/0/url", saying="contradicts"
    )


def test_an_upstreams_url_has_no_credentials():
    wrong = spec(url="http://user:secret@orders.test")
    given(*DEFAULT_RESOURCES).when(publish(of=wrong)).then_rejected(
        "inconsistent", "/spec/upstreams/0/endpoints/0/url"
    )
    output = " ".join(complaint.detail for complaint in inconsistencies(wrong))
    assert "orders.test" in output and "set-headers" in output
    assert "secret" not in output


@pytest.mark.parametrize("path", ["/a/../b", "/..", "/./a", "/a/%2E%2e"])
def test_an_upstreams_base_path_has_no_dot_segments(path: str):
    endpoints = [{"url": "http://orders.test"}]
    wrong = spec(upstreams=[{"name": "main", "endpoints": endpoints, "base_path": path}])
    given(*DEFAULT_RESOURCES).when(publish(of=wrong)).then_rejected(
        "inconsistent", "/spec/upstreams/0/base_path"
    )


@pytest.mark.parametrize("path", ["/a/..b", "/v1.0", "/.well-known"])
def test_dots_within_a_segment_are_like_other_characters(path: str):
    endpoints = [{"url": "http://orders.test"}]
    right = spec(upstreams=[{"name": "main", "endpoints": endpoints, "base_path": path}])
    given(*DEFAULT_RESOURCES).when(publish(of=right)).then(published(of=right))


def test_a_deployment_takes_the_newest_revision_and_the_commands_id():
    given(*DEFAULT_RESOURCES, published(), published(revision=2, of=SECOND)).when(deploy(), id="d1").then(
        started("d1", revision=2)
    )


def test_a_deployment_to_an_environment_goes_to_all_its_gateways():
    given(*DEFAULT_RESOURCES, published()).when(deploy(gateway=None, environment="production"), id="d1").then(
        started("d1", gateways=("east", "west"), environment="production")
    )


def test_redeploying_a_running_revision_changes_nothing():
    given(*DEFAULT_RESOURCES, published(), started("d1")).when(deploy(), id="d2").then_unchanged(
        "organizations/acme/deployments/d1"
    )


def test_a_chosen_name_of_a_deployment_is_never_used_again():
    stopped = DeploymentStopped(organization=ORG, name="blue", left=("east",))
    history = (*DEFAULT_RESOURCES, published(), CARTS, started("blue"), stopped)
    given(*history).when(deploy("carts", name="blue")).then_rejected("already-exists", "/name")
    given(*history).when(StopDeployment(organization=ORG, name="blue")).then_rejected("not-found", "/name")
    given(*history).when(deploy("carts", name="green")).then(started("green", "carts", context="/carts"))


def test_a_deployment_no_longer_in_force_is_not_found_with_any_expected_version():
    id = "01a1fc45-d9aa-7659-8144-8def5edf8279"
    stopped = DeploymentStopped(organization=ORG, name=id, left=("east",))
    stop = StopDeployment(organization=ORG, name=id, expected_version=2)
    given(*DEFAULT_RESOURCES, published(), started(id), stopped).when(stop).then_rejected(
        "not-found", "/name"
    )
    given(*DEFAULT_RESOURCES, published()).when(deploy(name="d1", expected_version=2)).then_rejected(
        "stale-version", "/expected_version"
    )


def test_a_deployment_that_ended_and_is_named_by_its_command_is_not_remembered():
    id = "01a1fc45-d9aa-7659-8144-8def5edf8279"
    stopped = DeploymentStopped(organization=ORG, name=id, left=("east",))
    partition_state = given(*DEFAULT_RESOURCES, published(), started(id), stopped).partition_state
    assert f"organizations/acme/deployments/{id}" not in partition_state.versions


def test_a_new_deployment_supersedes_the_one_before():
    given(*DEFAULT_RESOURCES, published(), published(revision=2, of=SECOND), started("d1")).when(
        deploy(), id="d2"
    ).then(
        DeploymentSuperseded(organization=ORG, name="d1", by="d2", gateways=(), state="superseded"),
        started("d2", revision=2),
    )


def test_a_deployment_superseded_on_one_gateway_goes_on_on_the_other():
    both = started("d1", gateways=("east", "west"), environment="production")
    given(*DEFAULT_RESOURCES, published(), published(revision=2, of=SECOND), both).when(
        deploy(), id="d2"
    ).then(
        DeploymentSuperseded(organization=ORG, name="d1", by="d2", gateways=("west",), state="active"),
        started("d2", revision=2),
    )


def test_two_apis_cannot_have_one_context_on_a_gateway():
    twin = published("twin")
    given(*DEFAULT_RESOURCES, published(), twin, started("d1")).when(deploy("twin")).then_rejected(
        "context-taken", "/api", saying="API 'orders' has /orders on gateway 'east'"
    )
    given(*DEFAULT_RESOURCES, published(), twin, started("d1")).when(
        deploy("twin", gateway="west"), id="d2"
    ).then(started("d2", "twin", gateways=("west",)))


def test_a_context_is_free_for_another_host():
    orders = published(of=spec(hosts=["example.com"]))
    twin = published("twin", of=spec(hosts=["twin.example.com"]))
    running = started("d1", hosts=("example.com",))
    given(*DEFAULT_RESOURCES, orders, twin, running).when(deploy("twin"), id="d2").then(
        started("d2", "twin", hosts=("twin.example.com",))
    )


def test_a_context_is_free_again_after_stopping():
    stopped = DeploymentStopped(organization=ORG, name="d1", left=("east",))
    given(*DEFAULT_RESOURCES, published(), published("twin"), started("d1"), stopped).when(
        deploy("twin"), id="d2"
    ).then(started("d2", "twin"))


def test_stopping_needs_a_deployment_in_force():
    stop = StopDeployment(organization=ORG, name="d1")
    given(*DEFAULT_RESOURCES, published(), started("d1")).when(stop).then(
        DeploymentStopped(organization=ORG, name="d1", left=("east",))
    )
    given(*DEFAULT_RESOURCES, published()).when(stop).then_rejected("not-found", "/name")


def test_resources_named_by_a_deployment_exist():
    given(*DEFAULT_RESOURCES).when(deploy()).then_rejected("unknown-reference", "/api")
    given(*DEFAULT_RESOURCES, published()).when(deploy(revision=2)).then_rejected(
        "unknown-reference", "/revision", saying="newest is 1"
    )
    given(*DEFAULT_RESOURCES, CARTS).when(deploy("carts", gateway="north")).then_rejected(
        "unknown-reference", "/gateway"
    )
