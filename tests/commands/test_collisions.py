"""Which requests an API may take on a gateway: hosts, sandbox hosts and contexts of several APIs."""

from typing import Any

import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st

from commands.decision import Rejection
from schemas.aggregates.deployment import DeploymentSuperseded, StopDeployment
from schemas.codecs.canonical import digest
from schemas.limits import MOST_CLAIMS
from schemas.message import Event
from tests.commands.shop import DEFAULT_RESOURCES, EAST, ORG, deploy, publish, published, spec, started
from tests.commands.specification import Specification, given

BACKENDS: dict[str, Any] = {"sandbox_backends": [{"upstream": "main"}]}


def api(name: str, context: str = "/orders", revision: int = 1, **fields: Any) -> Event:
    return published(name, revision, spec(context, **fields))


def deployed(*apis: Event) -> Specification:
    """Given a gateway and these APIs, of which all but the last are deployed in this order."""
    case = given(*DEFAULT_RESOURCES, *apis)
    names = list(dict.fromkeys(a.name for a in apis))
    for name in names[:-1]:
        case.when(deploy(name), id=f"d-{name}").then_anything()
    return case


@pytest.mark.parametrize(
    ("victim", "thief"),
    [
        ({"hosts": ["a.test"]}, {"hosts": ["b.test"], "sandbox_hosts": ["a.test"]}),
        ({"hosts": ["b.test"], "sandbox_hosts": ["a.test"]}, {"hosts": ["a.test"]}),
        (
            {"hosts": ["b.test"], "sandbox_hosts": ["a.test"]},
            {"hosts": ["c.test"], "sandbox_hosts": ["a.test"]},
        ),
        ({"hosts": ["*.test"]}, {"hosts": ["b.test.net"], "sandbox_hosts": ["*.test"]}),
        ({"hosts": ["*"]}, {"hosts": ["b.test"], "sandbox_hosts": ["*"]}),
    ],
    ids=["sandbox of a main host", "main of a sandbox host", "sandbox of both", "pattern", "any host"],
)
def test_a_host_belongs_to_one_api_whether_main_or_sandbox(victim: Any, thief: Any):
    sandbox = BACKENDS
    given_both = deployed(api("victim", **victim, **sandbox), api("thief", **thief, **sandbox))
    given_both.when(deploy("thief")).then_rejected("context-taken", "/api", saying="API 'victim' has ")


def test_the_event_says_the_sandbox_hosts():
    case = deployed(api("one", hosts=["a.test"], sandbox_hosts=["s.test"], **BACKENDS))
    case.when(deploy("one"), id="d1").then(started("d1", "one", hosts=("a.test",), sandbox_hosts=("s.test",)))


def test_a_host_is_free_once_a_redeployment_gave_it_up():
    first = api("one", hosts=["a.test"], sandbox_hosts=["s.test"], **BACKENDS)
    second = api("one", revision=2, hosts=["b.test"], sandbox_hosts=["t.test"], **BACKENDS)
    other = api("other", hosts=["s.test"])
    case = given(*DEFAULT_RESOURCES, first, second, other)
    case.when(deploy("one", revision=1), id="d1").then_anything()
    case.when(deploy("other"), id="d2").then_rejected("context-taken", "/api")
    case.when(deploy("one", revision=2), id="d3").then_anything()
    case.when(deploy("other"), id="d4").then(started("d4", "other", hosts=("s.test",)))


def test_a_redeployment_does_not_take_a_sandbox_host_that_has_gone_to_another():
    first = api("one", hosts=["a.test"], sandbox_hosts=["s.test"], **BACKENDS)
    second = api("one", revision=2, hosts=["a.test"])
    case = given(*DEFAULT_RESOURCES, first, second, api("other", hosts=["s.test"]))
    case.when(deploy("one", revision=2), id="d1").then_anything()
    case.when(deploy("other"), id="d2").then_anything()
    case.when(deploy("one", revision=1), id="d3").then_rejected("context-taken", "/api")


def test_sandbox_hosts_count_for_the_limit():
    hosts = [f"h{i}.test" for i in range(MOST_CLAIMS // 400)]
    sandbox = [f"s{i}.test" for i in range(MOST_CLAIMS // 400)]
    gateways = [EAST.model_copy(update={"name": f"g{i}"}) for i in range(200)]
    one = api("one", hosts=hosts, sandbox_hosts=sandbox, **BACKENDS)
    everywhere = deploy("one", gateway=None, environment="production")
    given(*DEFAULT_RESOURCES, *gateways, one).when(everywhere).then_rejected(
        "too-many-gateways", "/environment"
    )


# Deployments that were started before their events had the sandbox hosts.

OLD: dict[str, Any] = {"hosts": ("a.test",)}


def test_sandbox_hosts_that_an_older_event_does_not_say_belong_to_the_api_too():
    old = started("d1", "one", **OLD)
    assert old.sandbox_hosts == ()
    one = api("one", hosts=["a.test"], sandbox_hosts=["s.test"], **BACKENDS)
    case = given(*DEFAULT_RESOURCES, one, api("other", hosts=["s.test"]), old)
    case.when(deploy("other")).then_rejected("context-taken", "/api", saying="s.test/orders")


def test_history_in_which_two_apis_have_a_host_is_read_and_both_keep_it_from_others():
    history = (
        api("victim", hosts=["a.test"]),
        api("thief", hosts=["b.test"], sandbox_hosts=["a.test"], **BACKENDS),
        api("third", hosts=["a.test"]),
        started("d1", "thief", hosts=("b.test",)),
        started("d2", "victim", hosts=("a.test",)),
    )
    given(*DEFAULT_RESOURCES, *history).when(deploy("third")).then_rejected("context-taken", "/api", "/api")
    gone = DeploymentSuperseded(organization=ORG, name="d1", by="d3", gateways=(), state="superseded")
    given(*DEFAULT_RESOURCES, *history, gone).when(deploy("third")).then_rejected("context-taken", "/api")


# One API within the context, or the hosts, of another.

ITEMS = [{"method": "GET", "path": "/items"}, {"method": "POST", "path": "/items"}]
OTHERS = [{"method": "GET", "path": "/others"}]


def pair(outer: dict[str, Any], inner: dict[str, Any]) -> tuple[Event, Event]:
    return (
        api("outer", **{"context": "/a", "operations": ITEMS, **outer}),
        api("inner", **{"context": "/a/items", "operations": OTHERS, **inner}),
    )


def in_either_order(outer: Event, inner: Event) -> tuple[Specification, Specification]:
    """The inner API deployed after the outer one, and before it."""
    later, earlier = deployed(outer, inner), deployed(inner, outer)
    return later.when(deploy("inner"), id="last"), earlier.when(deploy("outer"), id="last")


COVERING: list[Any] = [
    pytest.param({}, {}, "GET /items, POST /items", id="literal"),
    pytest.param(
        {"operations": [{"method": "GET", "path": "/items/{id}/lines"}]},
        {},
        "GET /items/{id}/lines",
        id="below the inner context",
    ),
    pytest.param({"operations": [{"method": "GET", "path": "/*"}]}, {}, "GET /*", id="wildcard"),
    pytest.param(
        {"operations": [{"method": "GET", "path": "/items/*"}]},
        {"context": "/a/items/x/y"},
        "GET /items/*",
        id="wildcard further up",
    ),
    pytest.param({"operations": [{"method": "GET", "path": "/{id}"}]}, {}, "GET /{id}", id="parameter"),
    pytest.param({"hosts": ["*"]}, {"hosts": ["x.test"]}, "GET /items", id="host within any"),
    pytest.param({"hosts": ["*.test"]}, {"hosts": ["a.x.test"]}, "GET /items", id="host within pattern"),
    pytest.param({"hosts": ["x.test"]}, {"hosts": ["*"]}, "GET /items", id="any host over a host"),
    pytest.param({"hosts": ["x.test"]}, {"hosts": ["*.test"]}, "GET /items", id="pattern over a host"),
    pytest.param(
        {"hosts": ["x.test"]},
        {"hosts": ["y.test"], "sandbox_hosts": ["x.test"], **BACKENDS},
        "GET /items",
        id="sandbox host",
    ),
    pytest.param({"hosts": ["*"]}, {"hosts": ["x.test"], "context": "/a"}, "GET /items", id="same context"),
    pytest.param(
        {"hosts": ["*.test"]}, {"hosts": ["*.x.test"], "context": "/a"}, "GET /items", id="narrower pattern"
    ),
]


@pytest.mark.parametrize(("outer", "inner", "covered"), COVERING)
def test_an_api_does_not_answer_requests_of_another(outer: Any, inner: Any, covered: str):
    for case in in_either_order(*pair(outer, inner)):
        case.then_rejected("context-overlaps", "/api", saying=covered)


@pytest.mark.parametrize(("outer", "inner", "covered"), COVERING)
def test_an_api_may_let_others_have_a_context_of_its_own(outer: Any, inner: Any, covered: str):
    context = inner.get("context", "/a/items")
    for delegated in (context, "/a"):
        for case in in_either_order(*pair({**outer, "delegated_contexts": [delegated]}, inner)):
            assert covered
            case.then_anything()


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ({"context": "/a/v1"}, {"context": "/a/v2", "operations": ITEMS}),
        ({}, {"context": "/a/reports"}),
        ({}, {"context": "/a/item"}),
        ({}, {"context": "/a/items-old"}),
        ({"operations": [{"method": "GET", "path": "/"}]}, {}),
        ({"operations": [{"method": "GET", "path": "/items"}]}, {"context": "/a/items/x"}),
        ({"operations": [{"method": "GET", "path": "/{id}"}]}, {"context": "/a/items/x"}),
        ({"hosts": ["x.test"]}, {"hosts": ["y.test"]}),
        ({"hosts": ["*.x.test"]}, {"hosts": ["x.test"]}),
        ({"hosts": ["*.x.test"]}, {"hosts": ["*.y.test"]}),
    ],
)
def test_an_api_that_takes_no_requests_from_others_is_deployed(outer: Any, inner: Any):
    for case in in_either_order(*pair(outer, inner)):
        case.then_anything()


def test_the_rejection_names_the_losing_api_its_requests_and_the_remedy():
    case = deployed(*pair({}, {})).when(deploy("inner"))
    assert isinstance(case.result, Rejection)
    assert case.result.message == (
        "On gateway 'east' the API 'inner' at /a/items would answer requests of 'outer' at /a: GET /items, "
        "POST /items. Choose another context or host, or let 'outer' list /a/items in its delegatedContexts "
        "and deploy that."
    )


def test_the_rejection_of_the_second_api_that_would_lose_names_both_ways():
    case = deployed(*reversed(pair({}, {}))).when(deploy("outer"))
    assert isinstance(case.result, Rejection)
    assert case.result.message.endswith(
        "POST /items. Undeploy 'inner', which is there already, from 'east', or let 'outer' list /a/items in "
        "its delegatedContexts and deploy that."
    )


def test_the_context_that_is_delegated_is_the_one_that_others_may_have():
    for delegated in ("/a/items/x", "/a/item", "/a/others"):
        for case in in_either_order(*pair({"delegated_contexts": [delegated]}, {})):
            case.then_rejected("context-overlaps", "/api")


def test_consent_cannot_be_taken_back_while_it_is_used():
    outer, inner = pair({"delegated_contexts": ["/a/items"]}, {})
    without = api("outer", "/a", 2, operations=ITEMS)
    case = deployed(outer, inner).when(deploy("inner"), id="d2")
    case.given(without).when(deploy("outer"), id="d3").then_rejected("context-overlaps", "/api")
    case.when(StopDeployment(organization=ORG, name="d2"), id="d4").then_anything()
    case.when(deploy("outer"), id="d5").then_anything()


def test_another_gateway_is_another_place():
    case = deployed(*pair({}, {})).when(deploy("inner", gateway="west"), id="d2")
    case.then_anything()
    case.when(deploy("inner", gateway=None, environment="production"), id="d3").then_rejected(
        "context-overlaps", "/api", saying="'east'"
    )


def test_an_api_may_redeploy_where_it_is_itself():
    wide = api("one", "/a", operations=ITEMS, hosts=["*", "*.x.test"])
    narrow = api("one", "/a/items", 2, operations=ITEMS, hosts=["a.x.test"])
    case = given(*DEFAULT_RESOURCES, wide, narrow)
    case.when(deploy("one", revision=1), id="d1").then_anything()
    case.when(deploy("one", revision=2), id="d2").then_anything()


def test_a_deployed_overlapping_api_stays_when_it_is_deployed_again():
    outer, inner = pair({}, {})
    history = (
        started("d1", "outer", context="/a"),
        started("d2", "inner", context="/a/items"),
    )
    given(*DEFAULT_RESOURCES, outer, inner, *history).when(deploy("inner")).then_unchanged(
        f"organizations/{ORG}/deployments/d2"
    )


def test_an_api_delegates_only_its_own_paths():
    wrong = spec("/a", delegated_contexts=["/a", "/a/b", "/ab", "/b"])
    given(*DEFAULT_RESOURCES).when(publish(of=wrong)).then_rejected(
        "inconsistent", "/spec/delegated_contexts/2", "/spec/delegated_contexts/3"
    )


def test_a_field_of_a_later_version_makes_no_new_revision_of_an_api_without_it():
    before = published(of=spec())
    content = before.spec.model_dump(mode="json", exclude={"delegated_contexts"})
    assert before.digest == digest(content)
    given(*DEFAULT_RESOURCES, before).when(publish()).then_unchanged("organizations/acme/apis/orders")


def test_labels_and_segments_without_end_are_too_many():
    host = ".".join("a" for _ in range(100))
    deep = api("one", "/a" * 90, hosts=[f"{n}.{host}" for n in range(100)])
    given(*DEFAULT_RESOURCES, deep).when(deploy("one")).then_rejected("too-many-gateways", "/environment")


_PLACEMENTS = [
    (host, context)
    for host in ("*", "*.test", "*.x.test", "x.test", "a.x.test", "a.b.x.test", "y.test")
    for context in ("/a", "/a/b", "/a/b/c", "/ab", "/b")
]


def _meet(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether there is a request that both APIs, with all operations, match."""
    hosts = ("other", "z.test", "b.x.test", "x.test", "a.x.test", "a.b.x.test", "y.test")
    shared = any(_matches(one[0], host) and _matches(other[0], host) for host in hosts)
    return shared and (f"{one[1]}/".startswith(f"{other[1]}/") or f"{other[1]}/".startswith(f"{one[1]}/"))


def _matches(pattern: str, host: str) -> bool:
    return pattern in ("*", host) or (pattern.startswith("*.") and host.endswith(pattern[1:]))


@given_any(st.lists(st.sampled_from(_PLACEMENTS), min_size=2, max_size=4))
def test_each_pair_is_decided_as_by_comparing_all_requests(placements: list[tuple[str, str]]):
    """What is found by keys is what a comparison with every deployed API finds."""
    case = given(*DEFAULT_RESOURCES)
    deployed_: list[tuple[str, str]] = []
    for n, (host, context) in enumerate(placements):
        one = api(f"api-{n}", context, hosts=[host], operations=[{"method": "GET", "path": "/*"}])
        case.given(one).when(deploy(f"api-{n}"), id=f"d{n}")
        if any(_meet((host, context), other) for other in deployed_):
            assert isinstance(case.result, Rejection)
        else:
            case.then_anything()
            deployed_.append((host, context))
