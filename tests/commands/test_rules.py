"""What every command meets, whatever it is about."""

import pytest

from schemas.aggregates.api import DeleteApi
from schemas.aggregates.environment import DefineEnvironment, DeleteEnvironment, EnvironmentDefined
from schemas.aggregates.gateway import (
    ChangeGateway,
    GatewayChanged,
    GatewayRemoved,
    RegisterGateway,
    RemoveGateway,
)
from schemas.aggregates.organization import DefineOrganization, OrganizationDefined
from schemas.aggregates.project import DefineProject, DeleteProject, ProjectDefined, ProjectDeleted
from tests.commands.shop import (
    ACME,
    DEFAULT_RESOURCES,
    EAST,
    ORG,
    PRODUCTION,
    SHOP,
    TOKEN,
    WEST,
    publish,
    published,
    started,
)
from tests.commands.specification import given


def test_an_organization_is_defined_once():
    define = DefineOrganization(organization=ORG, name=ORG)
    given().when(define).then(ACME)
    given(ACME).when(define).then_unchanged("organizations/acme")
    renamed = DefineOrganization(organization=ORG, name=ORG, display_name="Acme Ltd")
    given(ACME).when(renamed).then(OrganizationDefined(organization=ORG, name=ORG, display_name="Acme Ltd"))


def test_an_organization_belongs_to_itself():
    given().when(DefineOrganization(organization=ORG, name="other")).then_rejected("name-mismatch", "/name")


def test_nothing_exists_outside_an_organization():
    given().when(DefineProject(organization=ORG, name="shop")).then_rejected(
        "no-such-organization", "/organization", saying="'acme'"
    )


def test_a_project_is_defined_changed_and_deleted():
    changed = ProjectDefined(organization=ORG, name="shop", display_name="Shop")
    given(ACME).when(DefineProject(organization=ORG, name="shop")).then(SHOP)
    given(ACME, SHOP).when(DefineProject(organization=ORG, name="shop", display_name="Shop")).then(changed)
    given(ACME, SHOP).when(DeleteProject(organization=ORG, name="shop")).then(
        ProjectDeleted(organization=ORG, name="shop")
    )
    given(ACME).when(DeleteProject(organization=ORG, name="shop")).then_rejected("not-found", "/name")


@pytest.mark.parametrize(("present", "new"), [("shop", "Shop"), ("Shop", "shop"), ("sHop", "Shop")])
def test_names_of_one_kind_differ_in_more_than_capital_letters(present: str, new: str):
    existing = ProjectDefined(organization=ORG, name=present)
    define = DefineProject(organization=ORG, name=new)
    given(ACME, existing).when(define).then_rejected("already-exists", "/name", saying=f"projects/{present};")
    ended = ProjectDeleted(organization=ORG, name=present)
    given(ACME, existing, ended).when(define).then(ProjectDefined(organization=ORG, name=new))
    environment = DefineEnvironment(organization=ORG, name=new)
    given(ACME, existing).when(environment).then(EnvironmentDefined(organization=ORG, name=new))


def test_names_that_older_versions_let_differ_in_capital_letters_only_can_still_be_changed():
    both = ACME, ProjectDefined(organization=ORG, name="shop"), ProjectDefined(organization=ORG, name="Shop")
    for name in ("shop", "Shop"):
        changed = ProjectDefined(organization=ORG, name=name, display_name="x")
        given(*both).when(DefineProject(organization=ORG, name=name, display_name="x")).then(changed)


@pytest.mark.parametrize(
    ("expected", "accepted"), [(0, False), (1, False), (2, True), (3, False), (None, True)]
)
def test_a_change_names_the_version_it_is_for(expected: int | None, accepted: bool):
    second = ProjectDefined(organization=ORG, name="shop", display_name="2")
    third = DefineProject(organization=ORG, name="shop", display_name="3", expected_version=expected)
    case = given(ACME, SHOP, second).when(third)
    if accepted:
        assert case.then(ProjectDefined(organization=ORG, name="shop", display_name="3")).version == 3
    else:
        case.then_rejected("stale-version", "/expected_version", saying="version 2")


def test_a_name_that_returns_goes_on_counting():
    gone = ProjectDeleted(organization=ORG, name="shop")
    again = given(ACME, SHOP, gone).when(DefineProject(organization=ORG, name="shop")).then(SHOP)
    assert again.version == 3


@pytest.mark.parametrize(("expected", "accepted"), [(0, True), (1, False), (2, False)])
def test_a_name_that_ended_is_free(expected: int, accepted: bool):
    gone = ProjectDeleted(organization=ORG, name="shop")
    anew = DefineProject(organization=ORG, name="shop", expected_version=expected)
    case = given(ACME, SHOP, gone).when(anew)
    if accepted:
        case.then(SHOP)
    else:
        case.then_rejected("stale-version", "/expected_version", saying="version 0")


def test_a_resource_that_others_need_cannot_be_deleted():
    given(*DEFAULT_RESOURCES, published()).when(DeleteProject(organization=ORG, name="shop")).then_rejected(
        "in-use", "/name", saying="organizations/acme/apis/orders"
    )
    given(*DEFAULT_RESOURCES).when(DeleteEnvironment(organization=ORG, name="production")).then_rejected(
        "in-use", "/name"
    )
    given(*DEFAULT_RESOURCES, published(), started("d1")).when(
        DeleteApi(organization=ORG, name="orders")
    ).then_rejected("in-use", "/name", saying="deployments/d1")


def test_a_refused_command_leaves_no_trace():
    case = given(*DEFAULT_RESOURCES, published(), started("d1"))
    case.when(DeleteApi(organization=ORG, name="orders")).then_rejected("in-use", "/name")
    case.when(publish()).then_unchanged("organizations/acme/apis/orders")


def test_references_exist():
    given(ACME).when(publish()).then_rejected("unknown-reference", "/project", saying="projects/shop")
    register = RegisterGateway(organization=ORG, name="east", environment="nowhere", token_digest=TOKEN)
    given(ACME).when(register).then_rejected("unknown-reference", "/environment")


def test_a_gateway_is_registered_once_changed_and_removed():
    register = RegisterGateway(organization=ORG, name="east", environment="production", token_digest=TOKEN)
    given(ACME, PRODUCTION).when(register).then(EAST)
    given(ACME, PRODUCTION, EAST).when(register).then_rejected("already-exists", "/name")
    moved = {"organization": ORG, "name": "east", "environment": "production", "port": 8443}
    given(*DEFAULT_RESOURCES).when(ChangeGateway.model_validate(moved)).then(
        GatewayChanged.model_validate(moved)
    )
    same = {"organization": ORG, "name": "east", "environment": "production"}
    given(*DEFAULT_RESOURCES).when(ChangeGateway.model_validate(same)).then_unchanged(
        "organizations/acme/gateways/east"
    )
    given(*DEFAULT_RESOURCES).when(RemoveGateway(organization=ORG, name="east")).then(
        GatewayRemoved(organization=ORG, name="east")
    )
    given(ACME).when(RemoveGateway(organization=ORG, name="east")).then_rejected("not-found", "/name")
    given(*DEFAULT_RESOURCES, published(), started("d1")).when(
        RemoveGateway(organization=ORG, name="east")
    ).then_rejected("in-use", "/name")


@pytest.mark.parametrize("address", ["", "localhost", "not an address!", "127.0.0.1:8000", "[::1]"])
def test_a_gateway_listens_at_an_ip_address(address: str):
    elsewhere = {"organization": ORG, "name": "east", "environment": "production", "address": address}
    given(*DEFAULT_RESOURCES).when(ChangeGateway.model_validate(elsewhere)).then_rejected(
        "invalid-address", "/address"
    )


def test_an_environment_is_free_again_when_its_gateways_have_gone():
    gone = (GatewayRemoved(organization=ORG, name="east"), GatewayRemoved(organization=ORG, name="west"))
    assert (
        given(*DEFAULT_RESOURCES, *gone)
        .when(DeleteEnvironment(organization=ORG, name="production"))
        .then_anything()
    )
    assert WEST.environment == "production"


def test_defining_the_same_environment_changes_nothing():
    given(*DEFAULT_RESOURCES).when(DefineEnvironment(organization=ORG, name="production")).then_unchanged(
        "organizations/acme/environments/production"
    )
