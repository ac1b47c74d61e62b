"""The protected parts of the gateway of a running Signalbox, and its public ones."""

import pytest

from signalbox.machine.processes import listening_ports, process
from tests.support.calls import Calls, specification
from tests.support.running_signalbox import RunningSignalbox


@pytest.mark.parametrize("server", ["http", "xds", "gateway"])
def test_no_api_reaches_signalboxs_own_ports(running: RunningSignalbox, calls: Calls, server: str):
    port = getattr(running, server)
    name = f"own-{server}"
    calls.publish(name, specification(f"/{name}", f"http://127.0.0.1:{port}"))
    assert calls.settled(calls.deploy(name))["state"] == "refused"

    calls.publish(name, specification(f"/{name}", f"http://localhost:{port}"))
    calls.deploy(name)

    running.answered(f"/{name}/items", f"{name}@2", status=502)


def test_the_gateways_token_is_never_shown(running: RunningSignalbox):
    envoy = process(running.envoy())
    assert envoy is not None
    token = (running.data / "gateway.token").read_text().strip()

    assert not any(token in argument for argument in envoy.argv)
    assert listening_ports(envoy.pid) == {running.gateway}
    holding = [
        file for file in running.data.rglob("*") if file.is_file() and token.encode() in file.read_bytes()
    ]
    assert holding
    assert all(file.stat().st_mode & 0o077 == 0 for file in holding)
