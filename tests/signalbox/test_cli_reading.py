"""`get`, `describe` and `history`, against a server with scripted answers."""

import json
from typing import Any

import pytest
import yaml

from tests.signalbox.answers import ORG, REFUSED, SERVING, T, api, deployment, golden, live, metadata, page
from tests.signalbox.conftest import Run
from tests.signalbox.server_stand_in import Asked, Scripted, StandIn, problem


def test_get_lists_with_the_columns_of_the_kind(run: Run, stand_in: StandIn) -> None:
    there = [live("edge", 11), live("local", 9)]
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
    there = [{**live("local", 9), "nodes": {"connected": 0, "acknowledged": 0}}, live("edge", 9)]
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
    then = {**live("local", 9), "nodes": None}
    stand_in.answers[f"GET {ORG}/live"] = page(live("edge", 11), then)
    assert run("get", "live", "--api", "orders").out == golden("""
        API     REVISION  GATEWAY  NODES   SINCE    DEPLOYMENT
        orders  11        edge     1 of 2  8 s ago  d-11
        orders  9         local    -       8 s ago  d-9
    """)
    assert stand_in.asked[0].query["api"] == "orders"
    output = json.loads(run("get", "live", "-o", "json", "--as-of", "7", "--gateway", "edge").out)
    assert output["items"][0] == live("edge", 11)
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


def test_deployments_are_narrowed_by_api_and_gateway(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/deployments"] = page(deployment("d-1", SERVING), deployment("d-2", SERVING))
    ran = run("get", "deployments", "--api", "orders", "--gateway", "local", "--limit", "1")
    assert stand_in.asked[0].query == {"state": "active", "gateway": "local", "api": "orders", "limit": "2"}
    hint = "choose with --api or --gateway, or see them with --limit or --all"
    assert ran.err == f"There are more than these 1: {hint}.\n"


def test_no_deployments_of_an_api_on_a_gateway(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/deployments"] = page()
    stand_in.answers["GET /organizations/default"] = Scripted({"name": "default"})
    ran = run("get", "deployments", "--api", "orders", "--gateway", "local")
    assert ran.err.startswith("There are no deployments of orders on local in the organization 'default' ")


@pytest.mark.parametrize("arguments", [("apis",), ("deployments", "d-1")])
def test_only_lists_of_deployments_and_what_is_live_are_narrowed(
    run: Run, arguments: tuple[str, ...]
) -> None:
    ran = run("get", *arguments, "--gateway", "local")
    assert ran.code == 3
    assert "--gateway and --api are for `get live` and `get deployments`" in ran.err


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
        {**live("edge", 3), "nodes": {"connected": 0, "acknowledged": 0}}
    )
    assert run("get", "live").out == golden("""
        API     REVISION  GATEWAY  NODES           SINCE    DEPLOYMENT
        orders  3         edge     none connected  8 s ago  d-3
    """)


def test_get_deployments_shows_since_when_one_is_offline(run: Run, stand_in: StandIn) -> None:
    offline = {**SERVING, "state": "offline", "since": f"{T}8.500000Z", "offline": ["local"]}
    stand_in.answers[f"GET {ORG}/deployments"] = page(deployment("d-1", offline))
    (line,) = run("get", "deployments").out.splitlines()[1:]
    assert line.split()[3:5] == ["offline", "1"]
