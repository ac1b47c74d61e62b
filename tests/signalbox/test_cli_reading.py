"""`get`, `describe` and `history`, against a server with scripted answers."""

import json
from typing import Any

import yaml

from tests.signalbox.answers import ORG, REFUSED, SERVING, T, api, deployment, golden, metadata, page
from tests.signalbox.conftest import Run
from tests.signalbox.server_stand_in import Asked, Scripted, StandIn, problem


def test_get_lists_with_the_columns_of_the_kind(run: Run, stand_in: StandIn) -> None:
    there = [entry("edge", 11), entry("local", 9)]
    orders = {**api("orders", 12), "live": there}
    stand_in.answers[f"GET {ORG}/apis"] = page(orders, {**api("a-longer-name"), "live": []})
    ran = run("get", "apis")
    assert ran.out == golden("""
        NAME           PROJECT  REVISION  VERSION  CONTEXT         LIVE              CHANGED
        orders         default  12        v1       /orders         11@edge, 9@local  3 s ago
        a-longer-name  default  1         v1       /a-longer-name  -                 3 s ago
    """)
    assert (ran.code, ran.err) == (0, "")
    (asked,) = stand_in.asked
    assert asked.headers["authorization"] == "Bearer the-token"


def test_an_invisible_character_in_a_table_is_shown_as_an_escape(run: Run, stand_in: StandIn) -> None:
    spec = {"version": "v1\x1b[2J", "context": "/a\u202e/b\0"}
    stand_in.answers[f"GET {ORG}/apis"] = page({**api("orders"), "spec": spec, "live": []})
    ran = run("get", "apis")
    assert ran.out == golden("""
        NAME    PROJECT  REVISION  VERSION    CONTEXT         LIVE  CHANGED
        orders  default  1         v1\\x1b[2J  /a\\u202e/b\\x00  -     3 s ago
    """)


def test_get_deployments_shows_live_gateways_and_since_when(run: Run, stand_in: StandIn) -> None:
    pending = {"state": "pending", "facts": {"published": None}, "refusals": []}
    published = {**pending, "facts": {"published": f"{T}1.003500Z"}}
    stand_in.answers[f"GET {ORG}/deployments"] = page(
        deployment("d-1", SERVING), deployment("d-3", pending), deployment("d-4", published)
    )
    assert run("get", "deployment").out == golden("""
        API     REVISION  GATEWAYS  STATE    SINCE    DEPLOYMENT  REMARK
        orders  3         local     serving  7 s ago  d-1
        orders  3         local     pending  3 s ago  d-3         not published yet
        orders  3         local     pending  8 s ago  d-4         published, not acknowledged yet
    """)
    assert stand_in.asked[0].query["state"] == "active"


def test_get_deployments_shows_why_one_is_refused(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/deployments"] = page(deployment("d-1", SERVING), deployment("d-2", REFUSED))
    assert run("get", "deployment").out == golden("""
        API     REVISION  GATEWAYS  STATE    SINCE    DEPLOYMENT  REMARK
        orders  3         local     serving  7 s ago  d-1
        orders  3         local     refused  8 s ago  d-2         bad regex
    """)


def test_get_deployments_shows_nodes_that_refuse_a_revision_others_acknowledged(
    run: Run, stand_in: StandIn
) -> None:
    there = {"local": {"connected": 3, "acknowledged": 2}}
    refusals = [{"gateway": "local", "node": "edge-3", "at": f"{T}2.000000Z", "reason": "bad regex"}]
    partly = {**REFUSED, "state": "partly-refused", "gateways": there, "refusals": refusals}
    unknown = {**REFUSED, "state": "pending", "refusals": refusals}
    stand_in.answers[f"GET {ORG}/deployments"] = page(deployment("d-1", partly), deployment("d-2", unknown))
    output = run("get", "deployments").out.splitlines()
    assert "partly-refused  8 s ago" in output[1]
    assert output[1].endswith("acknowledged by 2 of 3 nodes, refused by edge-3: bad regex")
    assert output[2].endswith("refused by edge-3: bad regex")


def test_a_refused_deployment_names_the_revision_that_keeps_serving(run: Run, stand_in: StandIn) -> None:
    gateways = {"local": {"live": {"deployment": "d-1", "revision": 2, "since": f"{T}1.000000Z"}}}
    refused = deployment("d-2", {**REFUSED, "gateways": gateways})
    stand_in.answers[f"GET {ORG}/deployments"] = page(refused)
    assert run("get", "deployments").out == golden("""
        API     REVISION  GATEWAYS  STATE    SINCE    DEPLOYMENT  REMARK
        orders  3         local     refused  8 s ago  d-2         bad regex; orders@2 keeps serving on local
    """)


def test_without_a_connected_node_no_revision_is_shown_to_keep_serving(run: Run, stand_in: StandIn) -> None:
    there = {"connected": 0, "live": {"deployment": "d-1", "revision": 2, "since": f"{T}1.000000Z"}}
    refused = deployment("d-2", {**REFUSED, "gateways": {"local": there}, "offline": ["local"]})
    stand_in.answers[f"GET {ORG}/deployments"] = page(refused)
    output = run("get", "deployments").out
    assert output.endswith(
        "bad regex; no node of the gateway local is connected; orders@2 was live on local\n"
    )


def test_get_apis_shows_gateways_without_a_connected_node(run: Run, stand_in: StandIn) -> None:
    there = [{**entry("local", 9), "nodes": {"connected": 0, "acknowledged": 0}}, entry("edge", 9)]
    stand_in.answers[f"GET {ORG}/apis"] = page({**api("orders", 9), "live": there})
    assert "9@local (no node connected), 9@edge" in run("get", "apis").out


def test_a_deployment_whose_gateway_has_no_node_is_offline(run: Run, stand_in: StandIn) -> None:
    offline = {**SERVING, "state": "offline", "offline": ["local"]}
    stopping = {**deployment("d-2", {**SERVING, "state": "stopping"}), "state": "stopped", "gateways": []}
    superseded = {
        **deployment("d-3", {**SERVING, "state": "stopped", "live": ["edge"]}),
        "state": "superseded",
    }
    stand_in.answers[f"GET {ORG}/deployments"] = page(deployment("d-1", offline), stopping, superseded)
    assert run("get", "deployments", "--all").out == golden("""
        API     REVISION  GATEWAYS  STATE       SINCE    DEPLOYMENT  REMARK
        orders  3         local     offline     8 s ago  d-1         no node of the gateway local is connected
        orders  3         local     stopping    3 s ago  d-2
        orders  3         local     superseded  3 s ago  d-3         still live on edge
    """)


def test_get_live_lists_the_served_revisions_of_each_gateway(run: Run, stand_in: StandIn) -> None:
    then = {**entry("local", 9), "nodes": None}
    stand_in.answers[f"GET {ORG}/live"] = page(entry("edge", 11), then)
    assert run("get", "live", "--api", "orders").out == golden("""
        API     REVISION  GATEWAY  NODES   SINCE    DEPLOYMENT
        orders  11        edge     1 of 2  8 s ago  d-11
        orders  9         local    -       8 s ago  d-9
    """)
    assert stand_in.asked[0].query["api"] == "orders"
    output = json.loads(run("get", "live", "-o", "json", "--as-of", "7", "--gateway", "edge").out)
    assert output["items"][0] == entry("edge", 11)
    assert (stand_in.asked[1].query["as_of"], stand_in.asked[1].query["gateway"]) == ("7", "edge")


def test_get_live_of_nothing_and_of_a_name(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/live"] = page()
    stand_in.answers["GET /organizations/default"] = Scripted({"name": "default"})
    ran = run("get", "live")
    assert (ran.code, ran.out, ran.err) == (0, "", "Nothing is live.\n")
    assert "--api orders" in run("get", "live", "orders").err
    assert "are for `get live`" in run("get", "apis", "--gateway", "local").err


def test_get_live_of_a_gateway_that_does_not_exist_is_an_error(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/live"] = problem(404, "not-found", "There is no gateway 'edge'.")
    stand_in.answers["GET /organizations/default"] = Scripted({"name": "default"})
    ran = run("get", "live", "--gateway", "edge")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "error: There is no gateway 'edge'.\nhint: `signalbox get gateways` lists those there are\n"
    )


def entry(gateway: str, revision: int) -> dict[str, Any]:
    """What is live on a gateway."""
    return {
        "gateway": gateway,
        "api": "orders",
        "revision": revision,
        "deployment": f"d-{revision}",
        "since": f"{T}2.000000Z",
        "nodes": {"connected": 2, "acknowledged": 1},
    }


def test_get_all_deployments_shows_those_that_ended_too(run: Run, stand_in: StandIn) -> None:
    ended = {**SERVING, "state": "stopped"}
    stopped = {**deployment("d-1", ended), "state": "stopped", "gateways": [], "left": ["local"]}
    reached = {**ended, "gateways": {"edge": {"connected": 1, "acknowledged": 0, "live": None}}}
    superseded = {**deployment("d-2", reached), "state": "superseded", "gateways": []}
    stand_in.answers[f"GET {ORG}/deployments"] = page(stopped, superseded)
    assert run("get", "deployments", "--all").out == golden("""
        API     REVISION  GATEWAYS  STATE       SINCE    DEPLOYMENT
        orders  3         local     stopped     3 s ago  d-1
        orders  3         edge      superseded  3 s ago  d-2
    """)
    assert "state" not in stand_in.asked[0].query


def test_get_deployments_when_none_is_in_force_says_how_to_see_the_others(
    run: Run, stand_in: StandIn
) -> None:
    stand_in.answers[f"GET {ORG}/deployments"] = page()
    stand_in.answers["GET /organizations/default"] = Scripted({"name": "default"})
    assert run("get", "deployments").err == (
        "There are no deployments in the organization 'default' that are in force; "
        "--all lists the ended ones too.\n"
    )


def test_an_organization_that_does_not_exist_is_not_an_empty_list(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/apis"] = page()
    stand_in.answers["GET /organizations/default"] = problem(404, "not-found", "There is none.")
    ran = run("get", "apis")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "error: there is no organization 'default'\n"
        "hint: `signalbox get organizations` lists those there are; choose one with --org or SIGNALBOX_ORG, "
        "or create it: signalbox create organization default\n"
    )


def test_get_as_json_is_the_answer_of_the_server(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/apis/orders"] = Scripted(api("orders"))
    assert json.loads(run("get", "api", "orders", "-o", "json").out) == api("orders")


def project(name: str) -> dict[str, Any]:
    return {"name": name, "display_name": "Shop", "metadata": metadata()}


def test_get_as_yaml_is_a_definition_with_the_status_of_the_server(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/projects/shop"] = Scripted(project("shop"))
    assert yaml.safe_load(run("get", "project", "shop", "-o", "yaml").out) == {
        "apiVersion": "signalbox.io/v1",
        "kind": "Project",
        "metadata": {"name": "shop"},
        "spec": {"displayName": "Shop"},
        "status": metadata(),
    }


def test_get_a_list_as_yaml_is_a_stream_of_definitions(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/projects"] = page(project("a"), project("b"))
    documents = list(yaml.safe_load_all(run("get", "projects", "-o", "yaml").out))
    assert [d["metadata"]["name"] for d in documents] == ["a", "b"]


def test_get_a_list_as_json_is_an_object_with_items(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/apis"] = page(api("orders"))
    assert json.loads(run("get", "apis", "-o", "json").out) == {"items": [api("orders")]}


def test_get_an_empty_list_says_so_beside_the_result(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/apis"] = page()
    stand_in.answers["GET /organizations/default"] = Scripted({"name": "default"})
    ran = run("get", "apis")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err == "There are no apis in the organization 'default'.\n"


def test_get_passes_the_moment_on(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/apis"] = page()
    run("get", "apis", "--as-of", "2026-11-20T00:00:00Z")
    assert stand_in.asked[0].query["as_of"] == "2026-11-20T00:00:00Z"


def test_get_says_when_there_is_more_and_all_reads_every_page(run: Run, stand_in: StandIn) -> None:
    def pages(asked: Asked) -> Scripted:
        if "cursor" in asked.query:
            return page(api("c"))
        return page(api("a"), api("b"), cursor="after b")

    stand_in.answers[f"GET {ORG}/apis"] = pages
    ran = run("get", "apis", "--limit", "1")
    assert [line.split()[0] for line in ran.out.splitlines()] == ["NAME", "a"]
    assert ran.err == "There are more than these 1: see them with --limit or --all.\n"
    ran = run("get", "apis", "--all")
    assert [line.split()[0] for line in ran.out.splitlines()] == ["NAME", "a", "b", "c"]
    assert ran.err == ""


def test_organizations_are_at_the_top(run: Run, stand_in: StandIn) -> None:
    stand_in.answers["GET /organizations"] = page({"name": "acme", "display_name": ""})
    assert run("get", "organizations").out == golden("""
        NAME  DISPLAY NAME  CHANGED
        acme  -             -
    """)


def test_names_are_quoted_in_paths(run: Run, stand_in: StandIn) -> None:
    ran = run("get", "api", "../gateways?x")
    assert stand_in.asked[0].path == f"/api/v1{ORG}/apis/../gateways?x"
    assert stand_in.asked[0].query == {}
    assert ran.code == 1


def test_get_live_during_an_outage_says_that_no_node_is_connected(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/live"] = page(
        {**entry("edge", 3), "nodes": {"connected": 0, "acknowledged": 0}}
    )
    assert run("get", "live").out == golden("""
        API     REVISION  GATEWAY  NODES           SINCE    DEPLOYMENT
        orders  3         edge     none connected  8 s ago  d-3
    """)


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
    stand_in.answers[f"GET {ORG}/live"] = page(entry("local", 3))
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


def test_get_deployments_shows_since_when_one_is_offline(run: Run, stand_in: StandIn) -> None:
    offline = {**SERVING, "state": "offline", "since": f"{T}8.500000Z", "offline": ["local"]}
    stand_in.answers[f"GET {ORG}/deployments"] = page(deployment("d-1", offline))
    (line,) = run("get", "deployments").out.splitlines()[1:]
    assert line.split()[3:5] == ["offline", "1"]


def test_describe_gateway_shows_its_nodes(run: Run, stand_in: StandIn) -> None:
    node = {"node": "envoy-1", "connected": True, "agent": "envoy 1.40.0", "last_seen": f"{T}9.500000Z"}
    node["listener_refused"] = "cannot bind 0.0.0.0:80"
    gateway = {"name": "local", "kind": "envoy", "nodes": [node]}
    stand_in.answers[f"GET {ORG}/gateways/local"] = Scripted(gateway)
    stand_in.answers[f"GET {ORG}/live"] = page(entry("local", 3))
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
