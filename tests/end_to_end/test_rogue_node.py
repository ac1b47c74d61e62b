"""A second node of a gateway that rejects everything, beside a real Envoy."""

from asyncio import to_thread
from typing import Any

import pytest

from signalbox.first_start.default_resources import LOCAL_GATEWAY
from tests.support.calls import Calls, specification, until
from tests.support.rejected import rejected_by_envoy
from tests.support.running_signalbox import RunningSignalbox
from tests.xds.rogue import rogue


@pytest.mark.parametrize("accepts", [(), ("CDS", "LDS", "SRDS")], ids=["nothing", "all-but-routes"])
async def test_a_node_that_rejects_a_version_that_envoy_accepts_stops_no_change_and_is_named(
    running: RunningSignalbox, calls: Calls, upstream: str, accepts: tuple[str, ...]
):
    name = f"rogue{len(accepts)}"
    token = (running.data / "gateway.token").read_text().strip()
    async with rogue(f"127.0.0.1:{running.xds}", LOCAL_GATEWAY, token, accepts=accepts):
        deployment = await to_thread(change_three_times, running, calls, name, upstream)
        status = await to_thread(until, lambda: partly_refused(calls, deployment), "the node is named")
        assert {refusal["node"] for refusal in status["refusals"]} == {"rogue"}
        assert (await to_thread(calls.settled, deployment))["state"] == "partly-refused"
        there = status["gateways"]["local"]
        assert (there["connected"], there["acknowledged"]) == (2, 1)

        await to_thread(calls.publish, name, rejected_by_envoy(f"/{name}", upstream))
        bad = await to_thread(calls.deploy, name)
        await to_thread(until, lambda: calls.status(bad)["state"] == "refused", "both nodes rejected it")
        assert running.through(f"/{name}/items")[1] == f"{name}@3"
    await to_thread(until, lambda: calls.status(bad)["live"] == [], "the bad revision is live nowhere")


def change_three_times(running: RunningSignalbox, calls: Calls, name: str, upstream: str) -> str:
    """Each revision answers before the next is published; the deployment of the last one."""
    deployment = ""
    for revision in (1, 2, 3):
        calls.publish(name, specification(f"/{name}", upstream, display_name=f"Revision {revision}"))
        deployment = calls.deploy(name)
        running.answered(f"/{name}/items", f"{name}@{revision}")
    return deployment


def partly_refused(calls: Calls, deployment: str) -> dict[str, Any] | None:
    status = calls.status(deployment)
    return status if status["state"] == "partly-refused" else None
