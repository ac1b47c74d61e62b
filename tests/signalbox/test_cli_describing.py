"""`signalbox describe` and `history`: what they show of one resource."""

import json
from typing import Any

from tests.signalbox.answers import ORG, REFUSED, SERVING, T, api, deployment, golden, live, page
from tests.signalbox.conftest import Run
from tests.signalbox.server_stand_in import Asked, Scripted, StandIn, problem


def test_describe_deployment_shows_the_five_facts(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/deployments/d-1"] = Scripted(deployment("d-1", SERVING))
    assert run("describe", "deployment", "d-1").out == golden("""
        name:         d-1
        api:          orders
        revision:     3
        gateways:     local
        context:      /orders
        hosts:        *
        requested at: 2026-11-21 09:30:01.000
        state:        active
        created:      2026-11-21 09:30:00.000 (10 s ago)
        changed:      2026-11-21 09:30:07.000 (3 s ago)
        version:      2

        Facts
        FACT          WHEN (UTC)               SINCE REQUEST  STEP
        requested     2026-11-21 09:30:01.000
        decided       2026-11-21 09:30:01.001  +1.5 ms        +1.5 ms
        published     2026-11-21 09:30:01.003  +3.5 ms        +2.0 ms
        acknowledged  2026-11-21 09:30:01.012  +12 ms         +8.5 ms
        serving       2026-11-21 09:30:02.500  +1.5 s         +1.5 s

        Gateways and nodes
        GATEWAY  NODE       FACT          FIRST (UTC)              LAST (UTC)
        local    all nodes  published     2026-11-21 09:30:01.003  -
        local    envoy-1    acknowledged  2026-11-21 09:30:01.012  -
        local    envoy-1    serving       2026-11-21 09:30:02.500  -
    """)


def test_describe_deployment_shows_the_refusing_nodes_and_their_reasons(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/deployments/d-2"] = Scripted(deployment("d-2", REFUSED))
    output = run("describe", "deployment", "d-2").out
    assert "\nacknowledged  not yet\n" in output
    assert output.endswith(
        "\nRefused\nlocal, node envoy-1, at 2026-11-21 09:30:01.020: bad regex\n"
        "`signalbox undeploy d-2`, then `signalbox deploy orders@3 --to local` tries it again\n"
    )


def test_describe_deployment_shows_its_rollout_with_times_like_the_facts(run: Run, stand_in: StandIn) -> None:
    # given Signalbox on Kafka
    rollout = {"state": "rolling-out", "nodes": 3, "reached": 2, "reason": "", "since": f"{T}2.500000Z"}
    stand_in.answers[f"GET {ORG}/deployments/d-1"] = Scripted(
        {**deployment("d-1", SERVING), "rollout": rollout}
    )

    output = run("describe", "deployment", "d-1").out

    assert output.endswith(
        "\nRollout\nrolling-out since 2026-11-21 09:30:02.500 UTC (7 s ago): 2 of 3 nodes have it\n"
    )
    assert "rollout:" not in output


def test_describe_deployment_shows_why_its_rollout_was_refused(run: Run, stand_in: StandIn) -> None:
    rollout = {"state": "refused", "nodes": 1, "reached": 0, "reason": "bad regex", "since": f"{T}1.020000Z"}
    stand_in.answers[f"GET {ORG}/deployments/d-2"] = Scripted(
        {**deployment("d-2", REFUSED), "rollout": rollout}
    )
    assert run("describe", "deployment", "d-2").out.endswith(": 0 of 1 node has it; bad regex\n")


def test_describe_gateway_shows_its_liveness_with_times_like_the_facts(run: Run, stand_in: StandIn) -> None:
    liveness = {"state": "degraded", "nodes": 2, "heard": 1, "since": f"{T}2.500000Z"}
    gateway = {"name": "local", "kind": "envoy", "nodes": [], "liveness": liveness}
    stand_in.answers[f"GET {ORG}/gateways/local"] = Scripted(gateway)
    stand_in.answers[f"GET {ORG}/live"] = page()
    assert run("describe", "gateway", "local").out == golden("""
        name: local
        kind: envoy

        Nodes
        none yet

        Liveness
        degraded since 2026-11-21 09:30:02.500 UTC (7 s ago): 1 of 2 nodes alive

        Live
        nothing
    """)


def test_describe_api_shows_its_revisions_and_where_it_runs(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/apis/orders"] = Scripted(api("orders", 2))
    stand_in.answers[f"GET {ORG}/apis/orders/revisions"] = page(api("orders"), api("orders", 2))
    stand_in.answers[f"GET {ORG}/deployments"] = page(deployment("d-1", SERVING))
    stand_in.answers[f"GET {ORG}/live"] = page(live("local", 3))
    assert run("describe", "api", "orders").out == golden("""
        name:     orders
        project:  default
        revision: 2
        created:  2026-11-21 09:30:00.000 (10 s ago)
        changed:  2026-11-21 09:30:07.000 (3 s ago)
        version:  2
        spec:
          version: v1
          context: /orders
          operations:
            method GET, path /

        Revisions
        REVISION  VERSION  CONTEXT  PUBLISHED
        2         v1       /orders  10 s ago
        1         v1       /orders  10 s ago

        Deployed
        REVISION  GATEWAYS  STATE    SINCE    DEPLOYMENT
        3         local     serving  7 s ago  d-1

        Live
        REVISION  GATEWAY  NODES   SINCE    DEPLOYMENT
        3         local    1 of 2  8 s ago  d-3
    """)
    assert stand_in.asked[-2].query["state"] == "active"


def test_describe_gateway_without_nodes_says_so(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/gateways/local"] = Scripted({"name": "local", "nodes": []})
    stand_in.answers[f"GET {ORG}/live"] = page()
    assert "\nLiveness\nno node has connected yet\n" in run("describe", "gateway", "local").out


def test_describe_gateway_shows_its_nodes(run: Run, stand_in: StandIn) -> None:
    node = {"node": "envoy-1", "connected": True, "agent": "envoy 1.40.0", "last_seen": f"{T}9.500000Z"}
    node["listener_refused"] = "cannot bind 0.0.0.0:80"
    gateway = {"name": "local", "kind": "envoy", "nodes": [node]}
    stand_in.answers[f"GET {ORG}/gateways/local"] = Scripted(gateway)
    stand_in.answers[f"GET {ORG}/live"] = page(live("local", 3))
    assert run("describe", "gateway", "local").out == golden("""
        name: local
        kind: envoy

        Nodes
        NODE     CONNECTED  AGENT         LAST SEEN  ACKNOWLEDGED  REFUSED  PENDING  WITHHELD
        envoy-1  yes        envoy 1.40.0  now        -             -        -        -

        Not listening at the gateway's address
        envoy-1: cannot bind 0.0.0.0:80

        Liveness
        not known yet: its nodes are expected to connect again

        Live
        API     REVISION  NODES   SINCE    DEPLOYMENT
        orders  3         1 of 2  8 s ago  d-3
    """)


def test_describe_gateway_shows_how_many_of_its_nodes_refuse_a_deployment(
    run: Run, stand_in: StandIn
) -> None:
    nodes = [
        {"node": f"edge-{n}", "connected": True, "agent": "envoy", "last_seen": f"{T}9.500000Z"}
        for n in "123"
    ]
    refusal = {"api": "orders", "revision": 3, "reason": "bad regex", "at": f"{T}2.000000Z"}
    refusals = [{**refusal, "deployment": "d-1", "nodes": 1, "refused_by": "edge-3"}]
    stand_in.answers[f"GET {ORG}/gateways/local"] = Scripted(
        {"name": "local", "nodes": nodes, "refusals": refusals}
    )
    stand_in.answers[f"GET {ORG}/live"] = page()
    output = run("describe", "gateway", "local").out
    assert "orders revision 3, by 1 of 3 nodes, last by edge-3, 8 s ago: bad regex" in output


def test_describe_gateway_of_the_past_says_that_nodes_are_not_known(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/gateways/local"] = Scripted({"name": "local", "kind": "envoy"})
    stand_in.answers[f"GET {ORG}/live"] = page()
    output = run("describe", "gateway", "local", "--as-of", "7").out
    assert "\nNodes\nnot known: only the present state of nodes is stored\n" in output


def test_describe_gateway_compares_nodes_with_the_deployments_in_force(run: Run, stand_in: StandIn) -> None:
    node = {"connected": True, "agent": "envoy 1.40.0", "last_seen": f"{T}9.500000Z"}
    counts = {"desired": 1200, "acknowledged": 1197, "refused": 1, "pending": 0, "withheld": 2}
    none_yet = {"desired": 1200, "acknowledged": 0, "refused": 0, "pending": 1198, "withheld": 2}
    left, back = {"withheld": False}, {"withheld": True}
    refusal = {"api": "orders", "revision": 3, "reason": "bad regex", "at": f"{T}2.000000Z"}
    stand_in.answers[f"GET {ORG}/gateways/local"] = Scripted(
        {
            "kind": "envoy",
            "name": "local",
            "nodes": [
                {**node, "node": "envoy-1", "deployments": counts},
                {**node, "node": "envoy-2", "connected": False, "deployments": none_yet},
            ],
            "deployments": {"desired": 1200, "refused": 4, "withheld": 2},
            "refusals": [
                {**refusal, **left, "deployment": "d-1", "nodes": 1, "refused_by": "envoy-1"},
                {**refusal, **back, "deployment": "d-2", "nodes": 0, "api": "pets", "refused_by": "*"},
                {**refusal, **back, "deployment": "d-3", "nodes": 0, "api": "carts", "refused_by": "envoy-1"},
                {**refusal, **left, "deployment": "d-4", "nodes": 0, "api": "bills", "refused_by": "envoy-2"},
            ],
        }
    )
    stand_in.answers[f"GET {ORG}/live"] = page()
    assert run("describe", "gateway", "local").out == golden("""
        name: local
        kind: envoy

        Nodes
        NODE     CONNECTED  AGENT         LAST SEEN  ACKNOWLEDGED    REFUSED  PENDING  WITHHELD
        envoy-1  yes        envoy 1.40.0  now        1,197 of 1,200  1        0        2
        envoy-2  no         envoy 1.40.0  just now   0 of 1,200      0        1,198    2

        Liveness
        not known yet: its nodes are expected to connect again

        Deployments
        1,200 in force, 4 of them refused

        Refused
        orders revision 3, by 1 node, 8 s ago: bad regex
        pets revision 3, not sent to any node, 8 s ago: bad regex
        carts revision 3, refused by envoy-1, withheld since 2026-11-21 09:30:02.000 UTC: bad regex
        bills revision 3, refused by envoy-2, no connected node has answered yet, 8 s ago: bad regex

        Live
        nothing
    """)


def event(sequence: int, verb: str, **data: Any) -> dict[str, Any]:
    return {
        "type": f"io.signalbox.api.{verb}.v1",
        "time": f"{T}{sequence}.000000Z",
        "authid": "admin",
        "sequence": f"{sequence:020d}",
        "data": {"organization": "default", "name": "orders", **data},
    }


def test_history_lists_time_caller_and_change(run: Run, stand_in: StandIn) -> None:
    events = [event(1, "published", revision=1, spec={"context": "/"}), event(4, "deleted")]
    stand_in.answers[f"GET {ORG}/events"] = Scripted(events, headers={"signalbox-position": "0:4"})
    assert run("history", "api", "orders").out == golden("""
        WHEN (UTC)                        WHO    WHAT                   POSITION
        2026-11-21 09:30:01.000  9 s ago  admin  published: revision 1  1
        2026-11-21 09:30:04.000  6 s ago  admin  deleted                4
    """)
    assert stand_in.asked[0].query["subject"] == "organizations/default/apis/orders"


def test_history_follows_the_pages(run: Run, stand_in: StandIn) -> None:
    def pages(asked: Asked) -> Scripted:
        if asked.query["after"] == "0":
            headers = {"signalbox-position": "0:7", "link": '</next>; rel="next"'}
            return Scripted([event(7, "published", revision=1)], headers=headers)
        assert asked.query["after"] == "7"
        return Scripted([event(8, "published", revision=2)], headers={"signalbox-position": "0:8"})

    stand_in.answers[f"GET {ORG}/events"] = pages
    output = json.loads(run("history", "api", "orders", "--all", "-o", "json").out)
    assert [e["data"]["revision"] for e in output["items"]] == [1, 2]


def test_history_of_nothing_is_an_error(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/events"] = Scripted([])
    ran = run("history", "api", "ordres")
    assert ran.code == 1
    assert ran.err == golden("""
        error: there are no events of api 'ordres'
        hint: `signalbox get apis` lists those there are
    """)


def test_a_missing_resource_is_an_error(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/apis/ordres"] = problem(404, "not-found", "There is no api 'ordres'.")
    output = "error: There is no api 'ordres'.\nhint: `signalbox get apis` lists those there are\n"
    for verb in ("get", "describe"):
        ran = run(verb, "api", "ordres")
        assert (ran.code, ran.out, ran.err) == (1, "", output)
