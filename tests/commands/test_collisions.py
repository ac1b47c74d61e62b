"""Which requests an API may take on a gateway: hosts, sandbox hosts and contexts of several APIs."""

from typing import Any

import pytest

from schemas.deployment import DeploymentSuperseded
from schemas.limits import MOST_CLAIMS
from schemas.message import Event
from tests.commands.shop import EAST, HOUSE, ORG, deploy, published, spec, started
from tests.commands.specification import Specification, given

BACKENDS: dict[str, Any] = {"sandbox_backends": [{"upstream": "main"}]}


def api(name: str, context: str = "/orders", revision: int = 1, **fields: Any) -> Event:
    return published(name, revision, spec(context, **fields))


def deployed(*apis: Event) -> Specification:
    """Given a gateway and these APIs, of which all but the last are deployed in this order."""
    case = given(*HOUSE, *apis)
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
    case = given(*HOUSE, first, second, other)
    case.when(deploy("one", revision=1), id="d1").then_anything()
    case.when(deploy("other"), id="d2").then_rejected("context-taken", "/api")
    case.when(deploy("one", revision=2), id="d3").then_anything()
    case.when(deploy("other"), id="d4").then(started("d4", "other", hosts=("s.test",)))


def test_a_redeployment_does_not_take_a_sandbox_host_that_has_gone_to_another():
    first = api("one", hosts=["a.test"], sandbox_hosts=["s.test"], **BACKENDS)
    second = api("one", revision=2, hosts=["a.test"])
    case = given(*HOUSE, first, second, api("other", hosts=["s.test"]))
    case.when(deploy("one", revision=2), id="d1").then_anything()
    case.when(deploy("other"), id="d2").then_anything()
    case.when(deploy("one", revision=1), id="d3").then_rejected("context-taken", "/api")


def test_sandbox_hosts_count_for_the_limit():
    hosts = [f"h{i}.test" for i in range(MOST_CLAIMS // 400)]
    sandbox = [f"s{i}.test" for i in range(MOST_CLAIMS // 400)]
    gateways = [EAST.model_copy(update={"name": f"g{i}"}) for i in range(200)]
    one = api("one", hosts=hosts, sandbox_hosts=sandbox, **BACKENDS)
    everywhere = deploy("one", gateway=None, environment="production")
    given(*HOUSE, *gateways, one).when(everywhere).then_rejected("too-many-gateways", "/environment")


# Deployments that were started before their events said the sandbox hosts.

OLD: dict[str, Any] = {"hosts": ("a.test",)}


def test_sandbox_hosts_that_an_older_event_does_not_say_belong_to_the_api_too():
    old = started("d1", "one", **OLD)
    assert old.sandbox_hosts == ()
    one = api("one", hosts=["a.test"], sandbox_hosts=["s.test"], **BACKENDS)
    case = given(*HOUSE, one, api("other", hosts=["s.test"]), old)
    case.when(deploy("other")).then_rejected("context-taken", "/api", saying="s.test/orders")


def test_history_in_which_two_apis_have_a_host_is_read_and_both_keep_it_from_others():
    history = (
        api("victim", hosts=["a.test"]),
        api("thief", hosts=["b.test"], sandbox_hosts=["a.test"], **BACKENDS),
        api("third", hosts=["a.test"]),
        started("d1", "thief", hosts=("b.test",)),
        started("d2", "victim", hosts=("a.test",)),
    )
    given(*HOUSE, *history).when(deploy("third")).then_rejected("context-taken", "/api", "/api")
    gone = DeploymentSuperseded(organization=ORG, name="d1", by="d3", gateways=(), state="superseded")
    given(*HOUSE, *history, gone).when(deploy("third")).then_rejected("context-taken", "/api")
