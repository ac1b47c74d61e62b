"""`apply`, `deploy` and `undeploy`, against a server with scripted answers."""

import io
import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.signalbox.answers import ORG, PENDING, REFUSED, SERVING, golden
from tests.signalbox.conftest import Run
from tests.signalbox.server_stand_in import Asked, Scripted, StandIn, problem
from tests.support.hang_guard import HANG_SECONDS


def item(source: str, name: str, result: str = "created", **more: Any) -> dict[str, Any]:
    made = {"source": source, "line": 1, "kind": "API", "name": name, "result": result, "findings": []}
    return {**made, "revision": 1 if result == "created" else None, "deployment": None, **more}


def answered(*items: Any) -> Scripted:
    return Scripted({"items": list(items), "position": 1})


def without_seconds(text: str) -> str:
    return re.sub(r"\(\d+\.\d s\)", "(N s)", text)


def test_apply_prints_the_outcome_of_each_file(run: Run, stand_in: StandIn, outside: Path) -> None:
    (outside / "orders.yaml").write_text("kind: API")
    stand_in.answers[f"POST {ORG}/apply"] = answered(item("orders.yaml", "orders"))
    ran = run("apply", "-f", "orders.yaml")
    assert (ran.code, ran.out) == (0, "created    API orders revision 1  orders.yaml\n")
    assert without_seconds(ran.err) == "1 created (N s)\n"
    assert stand_in.asked[0].body == {
        "documents": [{"source": "orders.yaml", "content": "kind: API"}],
        "deploy": None,
    }


def test_apply_lists_every_finding_and_applies_the_rest(run: Run, stand_in: StandIn, outside: Path) -> None:
    (outside / "bad.yaml").write_text("kind: APY")
    findings = [
        {"line": 3, "column": 5, "severity": "error", "pointer": "/spec/context", "detail": "is missing"},
        {"line": 7, "column": 1, "severity": "warning", "pointer": "/spec/x", "detail": "unknown field"},
    ]
    rejection = {"detail": "API 'a' has /orders."}
    stand_in.answers[f"POST {ORG}/apply"] = answered(
        item("bad.yaml", "bad", "invalid", findings=findings),
        item("bad.yaml", "twice", "rejected", line=9, problem=rejection),
        item("bad.yaml", "good"),
    )
    ran = run("apply", "-f", "bad.yaml")
    assert ran.code == 1
    assert ran.out == golden("""
        invalid    API bad  bad.yaml
        rejected   API twice  bad.yaml
        created    API good revision 1  bad.yaml
    """)
    assert without_seconds(ran.err) == golden("""
        bad.yaml:3:5: error: is missing (/spec/context)
        bad.yaml:7:1: warning: unknown field (/spec/x)
        bad.yaml:9: error: API 'a' has /orders.
        1 invalid, 1 rejected, 1 created (N s)
    """)


def test_a_warning_alone_is_no_failure(run: Run, stand_in: StandIn, outside: Path) -> None:
    (outside / "a.yaml").write_text("")
    warned = item("a.yaml", "a", findings=[{"severity": "warning", "line": 1, "column": 1, "detail": "hm"}])
    stand_in.answers[f"POST {ORG}/apply"] = answered(warned)
    assert run("apply", "-f", "a.yaml").code == 0


def test_apply_reads_folders_sorted_and_standard_input(
    run: Run, stand_in: StandIn, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("z.yml", "sub/a.json", "b.YAML", "README.md"):
        (outside / "defs" / name).parent.mkdir(parents=True, exist_ok=True)
        (outside / "defs" / name).write_text(name)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("ä: 1".encode())))
    stand_in.answers[f"POST {ORG}/apply"] = answered()
    assert run("apply", "-f", "defs", "-f", "-").code == 0
    assert [d["source"] for d in stand_in.asked[0].body["documents"]] == [
        "defs/b.YAML",
        "defs/sub/a.json",
        "defs/z.yml",
        "stdin",
    ]
    assert stand_in.asked[0].body["documents"][3]["content"] == "ä: 1"


def test_a_file_that_is_not_text_is_a_finding_with_its_place(
    run: Run, stand_in: StandIn, outside: Path
) -> None:
    (outside / "a.yaml").write_bytes(b"kind: API\nname: \xff\n")
    (outside / "b.yaml").write_bytes("kind: API".encode("utf-16"))
    stand_in.answers[f"POST {ORG}/apply"] = answered(item("b.yaml", "b"))
    ran = run("apply", "-f", "a.yaml", "-f", "b.yaml")
    assert ran.code == 1
    assert ran.err.startswith("a.yaml:2:7: error: not UTF-8 text: invalid start byte\n")
    assert ran.out == "invalid    a.yaml\ncreated    API b revision 1  b.yaml\n"
    assert stand_in.asked[0].body["documents"] == [{"source": "b.yaml", "content": "kind: API"}]


def test_a_file_the_server_finds_too_large_is_a_finding(run: Run, stand_in: StandIn, outside: Path) -> None:
    (outside / "a.yaml").write_text("x")
    stand_in.answers[f"POST {ORG}/apply"] = problem(413, "too-large", "At most 10 MiB.")
    ran = run("apply", "-f", "a.yaml")
    assert ran.code == 1
    assert ran.err.startswith("a.yaml:1: error: At most 10 MiB.\n")


def test_many_files_go_in_batches_two_at_a_time_and_are_printed_in_order(
    run: Run, stand_in: StandIn, outside: Path
) -> None:
    for n in range(450):
        (outside / f"{n:03}.yaml").write_text("x")
    together = threading.Barrier(2, timeout=HANG_SECONDS)
    first = set[str]()

    def answer(asked: Asked) -> Scripted:
        sources = [d["source"] for d in asked.body["documents"]]
        assert len(sources) <= 200
        if sources[0] < "400":
            together.wait()  # neither is answered before both are asked
            first.add(sources[0])
        return answered(*(item(s, s.removesuffix(".yaml")) for s in sources))

    stand_in.answers[f"POST {ORG}/apply"] = answer
    ran = run("apply", "-f", ".")
    assert ran.code == 0
    assert [line.split()[2] for line in ran.out.splitlines()] == [f"{n:03}" for n in range(450)]
    assert len(first) == 2
    assert without_seconds(ran.err) == "450 created (N s)\n"


def test_apply_says_how_many_documents_got_no_answer(run: Run, stand_in: StandIn, outside: Path) -> None:
    for n in range(201):
        (outside / f"{n:03}.yaml").write_text("x")

    def answer(asked: Asked) -> Scripted:
        if len(asked.body["documents"]) == 1:
            raise ConnectionAbortedError("the server is killed")
        return answered(*(item(d["source"], Path(d["source"]).stem) for d in asked.body["documents"]))

    stand_in.answers[f"POST {ORG}/apply"] = answer
    ran = run("apply", "-f", str(outside))
    assert ran.code == 1
    assert "200 created" in ran.err
    assert (
        "before the error; 1 document got no answer and may have been applied. "
        "Fix this, then run apply again: it changes only what differs." in ran.err
    )


def test_results_before_a_failure_are_printed(run: Run, stand_in: StandIn, outside: Path) -> None:
    for n in range(201):
        (outside / f"{n:03}.yaml").write_text("x")

    def answer(asked: Asked) -> Scripted:
        if len(asked.body["documents"]) == 1:
            return problem(503, "unavailable", "The disk is full.")
        return answered(*(item(d["source"], Path(d["source"]).stem) for d in asked.body["documents"]))

    stand_in.answers[f"POST {ORG}/apply"] = answer
    ran = run("apply", "-f", str(outside))
    assert ran.code == 1
    assert without_seconds(ran.err) == golden("""
        200 created (N s) before the error. Fix this, then run apply again.
        error: The disk is full.
        hint: this is temporary; try again in a moment, or run `signalbox doctor`
    """)


def gateway(source: str, name: str) -> dict[str, Any]:
    return item(source, name, kind="Gateway", revision=None, token=f"sbg_{name}")


def test_the_token_of_a_new_gateway_is_printed(run: Run, stand_in: StandIn, outside: Path) -> None:
    (outside / "edge.yaml").write_text("kind: Gateway")
    stand_in.answers[f"POST {ORG}/apply"] = answered(gateway("edge.yaml", "edge"))
    assert run("apply", "-f", "edge.yaml").out == golden("""
        created    Gateway edge  edge.yaml
        token      edge: sbg_edge (its nodes connect with it; it is not shown again)
    """)
    (output,) = json.loads(run("apply", "-f", "edge.yaml", "-o", "json").out)["items"]
    assert output["token"] == "sbg_edge"


@pytest.mark.parametrize("failing", ["000.yaml", "200.yaml"])
def test_tokens_are_printed_even_when_another_request_fails(
    run: Run, stand_in: StandIn, outside: Path, failing: str
) -> None:
    for n in range(201):
        (outside / f"{n:03}.yaml").write_text("x")
    together = threading.Barrier(2, timeout=HANG_SECONDS)

    def answer(asked: Asked) -> Scripted:
        together.wait()  # both are on their way before one fails
        sources = [d["source"] for d in asked.body["documents"]]
        if failing in sources[0]:
            return problem(503, "unavailable", "The disk is full.")
        return answered(*(gateway(s, Path(s).stem) for s in sources))

    stand_in.answers[f"POST {ORG}/apply"] = answer
    ran = run("apply", "-f", ".", "-o", "json")
    assert ran.code == 1
    assert len([i["token"] for i in json.loads(ran.out)["items"]]) == (1 if failing == "000.yaml" else 200)


def test_tokens_are_printed_even_when_waiting_for_deployments_fails(
    run: Run, stand_in: StandIn, outside: Path
) -> None:
    deploying(stand_in, outside)
    both = (gateway("a.yaml", "edge"), item("a.yaml", "orders", deployment="d-0"))
    stand_in.answers[f"POST {ORG}/apply"] = answered(*both)
    stand_in.answers[f"POST {ORG}/deployments/facts"] = problem(503, "unavailable", "No.")
    ran = run("apply", "-f", "a.yaml", "--deploy", "-o", "json")
    assert ran.code == 1
    assert json.loads(ran.out)["items"][0]["token"] == "sbg_edge"


def deploying(stand_in: StandIn, outside: Path, *facts: dict[str, Any]) -> None:
    """Three APIs to deploy; the facts are what the server answers one after another."""
    (outside / "a.yaml").write_text("x")
    names = [f"d-{n}" for n in range(3)]
    items = [item("a.yaml", f"api-{n}", deployment=name) for n, name in enumerate(names)]
    stand_in.answers[f"GET {ORG}/gateways/local"] = Scripted({"name": "local"})
    stand_in.answers[f"POST {ORG}/apply"] = answered(*items)
    message = iter(facts)
    stand_in.answers[f"POST {ORG}/deployments/facts"] = lambda asked: Scripted(next(message))


def test_apply_deploy_waits_and_prints_times(run: Run, stand_in: StandIn, outside: Path) -> None:
    deploying(
        stand_in,
        outside,
        {"d-0": SERVING, "d-1": PENDING, "d-2": PENDING},
        {"d-1": SERVING, "d-2": SERVING},
    )
    ran = run("apply", "-f", "a.yaml", "--deploy")
    assert ran.code == 0
    assert ran.out.splitlines()[3] == (
        "serving    api-0 revision 1: requested 09:30:01.000, decided +1.5 ms, published +3.5 ms, "
        "acknowledged +12 ms, serving +1.5 s"
    )
    assert without_seconds(ran.err) == "3 created; 3 serving (N s)\n"
    apply = next(a for a in stand_in.asked if a.path.endswith("/apply"))
    assert apply.body["deploy"] == {"gateway": "local"}
    assert stand_in.asked[-1].body["names"] == ["d-1", "d-2"]
    assert 0 < stand_in.asked[-1].body["wait"] <= 5


def test_apply_deploy_of_a_deployed_revision_says_since_when(
    run: Run, stand_in: StandIn, outside: Path
) -> None:
    (outside / "a.yaml").write_text("x")
    same = item("a.yaml", "orders", "unchanged", revision=3, deployment="d-0", deployment_result="unchanged")
    stand_in.answers[f"GET {ORG}/gateways/local"] = Scripted({"name": "local"})
    stand_in.answers[f"POST {ORG}/apply"] = answered(same)
    stand_in.answers[f"POST {ORG}/deployments/facts"] = Scripted({"d-0": SERVING})
    ran = run("apply", "-f", "a.yaml", "--deploy")
    assert ran.out == golden("""
        unchanged  API orders revision 3  a.yaml
        serving    orders revision 3: unchanged, deployed since 2026-11-21 09:30:01.012 UTC
    """)
    assert without_seconds(ran.err) == "1 unchanged; 1 serving (N s)\n"


def test_apply_deploy_of_a_refused_revision_says_how_to_try_it_again(
    run: Run, stand_in: StandIn, outside: Path
) -> None:
    (outside / "a.yaml").write_text("x")
    same = item("a.yaml", "orders", "unchanged", revision=3, deployment="d-0", deployment_result="unchanged")
    stand_in.answers[f"GET {ORG}/gateways/local"] = Scripted({"name": "local"})
    stand_in.answers[f"POST {ORG}/apply"] = answered(same)
    stand_in.answers[f"POST {ORG}/deployments/facts"] = Scripted({"d-0": REFUSED})
    ran = run("apply", "-f", "a.yaml", "--deploy")
    assert ran.code == 1
    assert ran.err.splitlines()[0] == (
        "refused    orders revision 3: by local: bad regex; unchanged since: `signalbox undeploy d-0`, "
        "then this command tries it again"
    )


def test_apply_deploy_names_the_refusing_nodes_and_their_reasons(
    run: Run, stand_in: StandIn, outside: Path
) -> None:
    deploying(stand_in, outside, {"d-0": SERVING, "d-1": REFUSED, "d-2": SERVING})
    ran = run("apply", "-f", "a.yaml", "--deploy")
    assert ran.code == 1
    assert without_seconds(ran.err) == golden("""
        refused    api-1 revision 1: by local: bad regex
        3 created; 2 serving, 1 refused (N s)
    """)


def test_apply_deploy_gives_up_without_news(run: Run, stand_in: StandIn, outside: Path) -> None:
    deploying(stand_in, outside)
    waiting: dict[str, Any] = {"d-0": SERVING, "d-1": SERVING, "d-2": PENDING}
    stand_in.answers[f"POST {ORG}/deployments/facts"] = Scripted(waiting)
    ran = run("apply", "-f", "a.yaml", "--deploy", "--timeout", "0.01")
    assert ran.code == 1
    assert without_seconds(ran.err) == golden("""
        late       api-2 revision 1: no answer for 0.01 s; see `signalbox describe deployment d-2`
        3 created; 2 serving, 1 late (N s)
    """)


def test_apply_deploy_as_json_has_the_facts_of_each(run: Run, stand_in: StandIn, outside: Path) -> None:
    deploying(stand_in, outside, {"d-0": SERVING, "d-1": SERVING, "d-2": SERVING})
    output = json.loads(run("apply", "-f", "a.yaml", "--deploy", "-o", "json").out)
    assert [i["status"]["state"] for i in output["items"]] == ["serving"] * 3


def test_apply_to_an_environment(run: Run, stand_in: StandIn, outside: Path) -> None:
    (outside / "a.yaml").write_text("x")
    stand_in.answers[f"GET {ORG}/environments/production"] = Scripted({"name": "production"})
    stand_in.answers[f"POST {ORG}/apply"] = answered()
    assert run("apply", "-f", "a.yaml", "--deploy", "--to", "production").code == 0
    assert stand_in.asked[-1].body["deploy"] == {"environment": "production"}


def test_apply_to_nowhere_applies_nothing(run: Run, stand_in: StandIn, outside: Path) -> None:
    (outside / "a.yaml").write_text("x")
    ran = run("apply", "-f", "a.yaml", "--deploy", "--to", "nowhere")
    assert ran.code == 3
    assert ran.err.startswith(
        "error: there is no gateway and no environment 'nowhere'; nothing was applied\n"
    )
    assert {a.method for a in stand_in.asked} == {"GET"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-f", "missing.yaml"], 3, "error: there is no file or folder 'missing.yaml'\n"),
        (["-f", "empty"], 1, "error: there are no definitions (*.yaml, *.yml, *.json) in empty\n"),
        (["-f", "x", "--to", "local"], 3, "--to is the target of --deploy: give --deploy too"),
        ([], 3, "Missing option '-f' / '--file'."),
    ],
)
def test_apply_of_nothing(run: Run, outside: Path, arguments: list[str], code: int, message: str) -> None:
    (outside / "empty").mkdir()
    ran = run("apply", *arguments)
    assert ran.code == code
    assert message in ran.err


def test_apply_deploy_where_no_node_is_connected_is_no_success(
    run: Run, stand_in: StandIn, outside: Path
) -> None:
    (outside / "a.yaml").write_text("kind: API")
    stand_in.answers[f"GET {ORG}/gateways/local"] = Scripted({})
    stand_in.answers[f"POST {ORG}/apply"] = answered(item("a.yaml", "orders", deployment="d-1"))
    stand_in.answers[f"POST {ORG}/deployments/facts"] = Scripted({"d-1": {**PENDING, "offline": ["local"]}})
    ran = run("apply", "-f", "a.yaml", "--deploy", "--timeout", "0.1")
    assert ran.code == 1
    assert ran.err.count("no node of the gateway local is connected; waiting for one.") == 1
    assert "late       orders revision 1: no answer for 0.1 s; no node of the gateway local" in ran.err


def test_apply_warns_of_a_resource_that_two_files_define(run: Run, stand_in: StandIn, outside: Path) -> None:
    (outside / "both.yaml").write_text("kind: API")
    stand_in.answers[f"POST {ORG}/apply"] = answered(
        item("a.yaml", "orders"),
        item("b.yaml", "pets"),
        item("b.yaml", "orders", "changed", line=9),
        item("c.yaml", "pets", "invalid"),
    )
    ran = run("apply", "-f", "both.yaml")
    assert [line for line in ran.err.splitlines() if "warning" in line] == [
        "b.yaml:9: warning: API orders is defined in a.yaml too; the last one applied takes effect",
    ]


def test_apply_counts_created_revisions_that_were_not_deployed(
    run: Run, stand_in: StandIn, outside: Path
) -> None:
    (outside / "a.yaml").write_text("kind: API")
    stand_in.answers[f"GET {ORG}/gateways/local"] = Scripted({})
    stand_in.answers[f"POST {ORG}/apply"] = answered(
        item("a.yaml", "orders", problem={"detail": "API 'pets' has /orders on gateway 'local'."})
    )
    ran = run("apply", "-f", "a.yaml", "--deploy")
    assert ran.code == 1
    assert without_seconds(ran.err) == golden("""
        a.yaml:1: error: API 'pets' has /orders on gateway 'local'.
        1 created; 1 not deployed (N s)
    """)
