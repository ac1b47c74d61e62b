"""Nodes that were connected when the last process was killed, and their read models."""

import asyncio
from pathlib import Path

from schemas.envelopes import envelope_for
from schemas.identity import timestamp
from schemas.status import NodeReported
from signalbox.first_start.default_resources import LOCAL_GATEWAY
from signalbox.roles.runner import everything
from signalbox.settings import Address, Settings
from streams.sqlite.checks.ahead_of_log import READ_MODELS
from tests.support.calls import Calls
from tests.support.free_ports import free_port
from tests.support.hang_guard import HANG_SECONDS


def _settings(data: Path) -> Settings:
    http, xds = (Address("127.0.0.1", free_port()) for _ in range(2))
    return Settings(data=data, http=http, xds=xds, envoy=False, sample=False)


async def test_a_node_that_is_gone_is_disconnected_when_the_read_models_are_computed_again(
    tmp_path: Path,
):
    # Given a report on the log that a node is connected, and no later one
    async with everything(_settings(tmp_path)) as roles:
        await roles.started()
        report = NodeReported(
            organization="default", name="local", at=timestamp(), node="gone", connected=True, connection="c1"
        )
        log = await roles.runtime.log()
        await log.append("status", (envelope_for(report, source="/test", subject=LOCAL_GATEWAY),))
    # When the read models are lost, and the process starts
    _lose_read_models(tmp_path)
    here = _settings(tmp_path)
    async with everything(here) as roles:
        await roles.started()
        calls = Calls(here.http.port, here.admin_token.read_text().strip(), HANG_SECONDS)

        # Then the node is shown as disconnected
        async with asyncio.timeout(HANG_SECONDS):
            while await asyncio.to_thread(_connected, calls) != [("gone", False)]:
                pass
        calls.close()


def _lose_read_models(directory: Path) -> None:
    for file in directory.glob(f"{READ_MODELS}*"):
        file.unlink()


def _connected(calls: Calls) -> list[tuple[str, bool]]:
    nodes = calls.ask("GET", "/gateways/local").json["nodes"]
    return [(node["node"], node["connected"]) for node in nodes]
