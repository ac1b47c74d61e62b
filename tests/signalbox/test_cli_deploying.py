"""`signalbox deploy` and `undeploy`: what they wait for, print, and end with."""

import pytest

from tests.signalbox.answers import ORG, PENDING, REFUSED, SERVING, deployment, golden, page
from tests.signalbox.conftest import Run
from tests.signalbox.server_stand_in import Scripted, StandIn, problem


@pytest.fixture(autouse=True)
def the_gateway_local(stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/gateways/local"] = Scripted({"name": "local"})


def test_deploy_prints_the_time_of_each_fact(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"POST {ORG}/deployments"] = Scripted(deployment("d-1", {}), 201)
    stand_in.answers[f"POST {ORG}/deployments/facts"] = Scripted({"d-1": SERVING})
    ran = run("deploy", "orders@3", "--to", "local")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "deployment d-1: orders revision 3 on local",
        "serving: requested 09:30:01.000, decided +1.5 ms, published +3.5 ms, "
        "acknowledged +12 ms, serving +1.5 s",
    ]
    asked = stand_in.asked[1]
    assert asked.body == {"api": "orders", "revision": 3, "gateway": "local"}
    assert asked.headers["prefer"] == "wait=30"
    assert asked.headers["idempotency-key"]


def test_deploy_of_a_running_revision_says_so(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"POST {ORG}/deployments"] = Scripted(deployment("d-1", {}), 200)
    stand_in.answers[f"POST {ORG}/deployments/facts"] = Scripted({"d-1": SERVING})
    ran = run("deploy", "orders", "--to", "local")
    assert ran.out == golden("""
        deployment d-1: orders revision 3 on local
        serving: unchanged, deployed since 2026-11-21 09:30:01.012 UTC
    """)


def test_deploy_of_a_refused_revision_says_how_to_try_it_again(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"POST {ORG}/deployments"] = Scripted(deployment("d-1", {}), 200)
    stand_in.answers[f"POST {ORG}/deployments/facts"] = Scripted({"d-1": REFUSED})
    ran = run("deploy", "orders", "--to", "local")
    assert ran.out.splitlines()[1] == "refused: unchanged, asked for at 2026-11-21 09:30:01.000 UTC"
    assert (ran.code, ran.err) == (
        1,
        "error: refused by local: bad regex; unchanged since: `signalbox undeploy d-1`, "
        "then this command tries it again\n",
    )


def test_deploy_refused_exits_1_with_the_reason(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"POST {ORG}/deployments"] = Scripted(deployment("d-1", {}), 201)
    stand_in.answers[f"POST {ORG}/deployments/facts"] = Scripted({"d-1": REFUSED})
    ran = run("deploy", "orders", "--to", "local")
    assert (ran.code, ran.err) == (1, "error: refused by local: bad regex\n")


def test_deploy_that_some_nodes_refuse_exits_1_and_names_them(run: Run, stand_in: StandIn) -> None:
    partly = {
        **REFUSED,
        "state": "partly-refused",
        "gateways": {"local": {"connected": 2, "acknowledged": 1}},
        "refusals": [{"gateway": "local", "node": "edge-2", "at": "", "reason": "bad regex"}],
    }
    stand_in.answers[f"POST {ORG}/deployments"] = Scripted(deployment("d-1", {}), 201)
    stand_in.answers[f"POST {ORG}/deployments/facts"] = Scripted({"d-1": partly})
    ran = run("deploy", "orders", "--to", "local")
    output = "refused on local by some nodes: acknowledged by 1 of 2 nodes, refused by edge-2: bad regex"
    assert (ran.code, ran.err) == (1, f"error: {output}\n")


def test_deploy_that_no_gateway_answers(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"POST {ORG}/deployments"] = Scripted(deployment("d-1", {}), 201)
    stand_in.answers[f"POST {ORG}/deployments/facts"] = Scripted({"d-1": PENDING})
    ran = run("deploy", "orders", "--to", "local", "--timeout", "0.01")
    assert ran.code == 1
    assert ran.err == golden("""
        error: no gateway has answered for 0.01 s
        hint: `signalbox describe deployment d-1` shows its progress
    """)


def test_deploy_to_a_gateway_that_cannot_listen_says_why(run: Run, stand_in: StandIn) -> None:
    known = {**PENDING, "gateways": {"local": {"connected": 1, "acknowledged": 0}}}
    why = "cannot bind 0.0.0.0:8443: Address already in use"
    node = {"node": "envoy-1", "connected": True, "listener_refused": why}
    stand_in.answers[f"POST {ORG}/deployments"] = Scripted(deployment("d-1", {}), 201)
    stand_in.answers[f"POST {ORG}/deployments/facts"] = Scripted({"d-1": known})
    stand_in.answers[f"GET {ORG}/gateways/local"] = Scripted({"name": "local", "nodes": [node]})
    stand_in.answers[f"GET {ORG}/deployments/d-1"] = Scripted(deployment("d-1", known))

    ran = run("deploy", "orders", "--to", "local", "--timeout", "0.01")
    output = run("describe", "deployment", "d-1").out

    assert ran.code == 1
    deaf = f"envoy-1 of local does not listen at the gateway's address: {why}"
    assert ran.err.startswith(f"error: no gateway has answered for 0.01 s; {deaf}\n")
    assert f"Not listening\n{deaf}\n" in output


@pytest.mark.parametrize("state", ["pending", "offline"])
def test_deploy_where_no_node_is_connected_is_no_success(run: Run, stand_in: StandIn, state: str) -> None:
    known = {**PENDING, "state": state, "offline": ["local"]}
    stand_in.answers[f"POST {ORG}/deployments"] = Scripted(deployment("d-1", {}), 200)
    stand_in.answers[f"POST {ORG}/deployments/facts"] = Scripted({"d-1": known})
    ran = run("deploy", "orders", "--to", "local", "--timeout", "0.1")
    assert ran.code == 1
    waiting, error, hint = ran.err.splitlines()
    assert waiting == "no node of the gateway local is connected; waiting for one."
    assert error == "error: no node of the gateway local is connected, after 0.1 s"
    assert "start the proxy" in hint


def test_a_refused_deploy_names_the_revision_that_keeps_serving(run: Run, stand_in: StandIn) -> None:
    gateways = {"local": {"live": {"deployment": "d-0", "revision": 2, "since": "2026-11-21T09:00:00Z"}}}
    stand_in.answers[f"POST {ORG}/deployments"] = Scripted(deployment("d-1", {}), 201)
    stand_in.answers[f"POST {ORG}/deployments/facts"] = Scripted({"d-1": {**REFUSED, "gateways": gateways}})
    ran = run("deploy", "orders", "--to", "local")
    assert (ran.code, ran.err) == (
        1,
        "error: refused by local: bad regex; orders@2 keeps serving on local\n",
    )


def test_deploy_to_an_environment_sends_no_command_for_a_gateway(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/environments/production"] = Scripted({"name": "production"})
    stand_in.answers[f"POST {ORG}/deployments"] = Scripted(deployment("d-1", {}), 201)
    stand_in.answers[f"POST {ORG}/deployments/facts"] = Scripted({"d-1": SERVING})
    assert run("deploy", "orders", "--to", "production").code == 0
    started = [asked.body for asked in stand_in.asked if asked.path.endswith("/deployments")]
    assert started == [{"api": "orders", "environment": "production"}]


def test_deploy_to_nowhere_sends_no_command(run: Run, stand_in: StandIn) -> None:
    ran = run("deploy", "orders", "--to", "nowhere")
    assert ran.code == 3
    assert ran.err.startswith("error: there is no gateway and no environment 'nowhere'\n")
    assert {a.method for a in stand_in.asked} == {"GET"}


def test_deploy_of_a_rejected_command_says_the_rule_in_words(run: Run, stand_in: StandIn) -> None:
    errors = [{"pointer": "/api", "detail": "API 'a' has /orders on gateway 'local'"}]
    stand_in.answers[f"POST {ORG}/deployments"] = problem(
        409, "context-taken", "API 'a' has /orders on gateway 'local'.", errors=errors
    )
    ran = run("deploy", "orders", "--to", "local")
    assert (ran.code, ran.err) == (1, "error: API 'a' has /orders on gateway 'local'.\n")


def test_a_revision_is_a_number(run: Run) -> None:
    ran = run("deploy", "orders@new", "--to", "local")
    assert ran.code == 3
    assert "a revision is a number, as in orders@3; 'new' is not" in ran.err


def test_undeploy_takes_an_api_off_a_gateway(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/deployments"] = page(
        {**deployment("d-0", {}), "gateways": ["edge"]}, deployment("d-1", {})
    )
    stand_in.answers[f"DELETE {ORG}/deployments/d-1"] = Scripted({"state": "accepted"})
    edge = {"gateway": "edge", "api": "orders", "revision": 1, "deployment": "d-0"}
    local = {"gateway": "local", "api": "orders", "revision": 2, "deployment": "d-1"}
    answers = iter([page(edge, local), page(edge, local), page(edge)])
    stand_in.answers[f"GET {ORG}/live"] = lambda asked: next(answers)
    ran = run("undeploy", "orders", "--from", "local")
    assert (ran.code, ran.out) == (
        0,
        "deployment d-1: orders revision 3 stopped on local\ntakes away orders@2, which was live on local\n",
    )
    assert stand_in.asked[0].query["api"] == "orders"
    (stopped,) = (asked for asked in stand_in.asked if asked.method == "DELETE")
    assert stopped.headers["if-match"] == '"2"'
    assert next(answers, None) is None, "it waits until no node has it"


def test_undeploy_that_a_gateway_does_not_answer_is_no_success(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/deployments/d-1"] = Scripted(deployment("d-1", {}))
    stand_in.answers[f"DELETE {ORG}/deployments/d-1"] = Scripted({"state": "accepted"})
    stand_in.answers[f"GET {ORG}/live"] = page(
        {"gateway": "local", "api": "orders", "revision": 2, "deployment": "d-1"}
    )
    ran = run("undeploy", "d-1", "--timeout", "0.01")
    assert ran.code == 1
    assert ran.err == golden("""
        error: a node of local still has orders@2, after 0.01 s
        hint: `signalbox get live` lists what gateways serve; `signalbox describe gateway local` has its nodes
    """)


def test_undeploy_by_the_deployments_id(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/deployments/d-1"] = Scripted(deployment("d-1", {}))
    stand_in.answers[f"DELETE {ORG}/deployments/d-1"] = Scripted({"state": "accepted"})
    stand_in.answers[f"GET {ORG}/live"] = page()
    ran = run("undeploy", "d-1")
    assert (ran.code, ran.out.splitlines()[1]) == (0, "nothing was live there")


@pytest.mark.parametrize(
    ("gateways", "arguments", "message"),
    [
        ([], [], "error: orders is not deployed\nhint: `signalbox get deployments` lists what runs\n"),
        ([["edge"]], ["--from", "local"], "error: orders is not deployed on local\nhint: it runs on edge\n"),
        (
            [["edge"], ["local"]],
            [],
            "error: orders runs on edge, local\nhint: choose one with --from GATEWAY\n",
        ),
        (
            [["edge", "local"]],
            ["--from", "local"],
            "error: orders was deployed to edge, local together\n"
            "hint: to take it off all of them: signalbox undeploy d-0\n",
        ),
    ],
)
def test_undeploy_stops_only_the_named_deployment(
    run: Run, stand_in: StandIn, gateways: list[list[str]], arguments: list[str], message: str
) -> None:
    running = [{**deployment(f"d-{n}", {}), "gateways": g} for n, g in enumerate(gateways)]
    stand_in.answers[f"GET {ORG}/deployments"] = page(*running)
    ran = run("undeploy", "orders", *arguments)
    assert (ran.code, ran.err) == (1, message)
    assert all(a.method == "GET" for a in stand_in.asked)
