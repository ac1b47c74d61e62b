"""Odd requests to the real HTTP server: no failure, and nothing of another organization."""

from pathlib import Path

import pytest

from signalbox.http.server import HttpServer
from signalbox.settings import Address
from tests.api.running_api import ACME, ADMIN, ORG, running_api
from tests.api.test_openapi import DOCUMENT
from tests.support.free_ports import free_port
from tests.support.odd_requests import MARKER, Caller, attack, paths_of

COUNT = 1_500


@pytest.mark.chaos
async def test_no_odd_request_fails_or_reads_data_of_another_organization(tmp_path: Path):
    async with running_api(tmp_path) as made:
        assert (await made.put(f"{ORG}/projects/secret", {"display_name": MARKER})).status_code == 201
        address = Address("127.0.0.1", free_port())
        server = HttpServer(made.app, address)
        await server.start()
        try:
            callers = [
                Caller(""),
                Caller("Bearer wrong"),
                Caller(f"Bearer {ACME}"),
                Caller(f"Bearer {ACME}"),
                Caller(f"Bearer {ADMIN}", entitled=True),
            ]
            seen = await attack(address.port, COUNT, callers, paths_of(DOCUMENT))
        finally:
            await server.stop()
    assert seen.failures == []
    assert seen.leaks == []
    # The requests came as far as they should: refused at every stage, and carried out.
    assert {200, 400, 401, 403, 404, 405, 422} <= seen.statuses.keys()
