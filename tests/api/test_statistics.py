"""Statistics on the embedded engine."""

import asyncio

from tests.api.running_api import ORG, RunningApi
from tests.support.hang_guard import HANG_SECONDS


async def test_an_accepted_command_is_counted_in_its_minute(signalbox: RunningApi) -> None:
    async def events() -> int:
        answer = await signalbox.client.get(f"{ORG}/statistics", params={"minutes": "5"})
        assert answer.status_code == 200
        return sum(minute["events"] for minute in answer.json()["items"])

    before = await events()
    await signalbox.publish("counted")
    async with asyncio.timeout(HANG_SECONDS):
        while await events() <= before:
            pass


async def test_a_span_out_of_bounds_is_refused(signalbox: RunningApi) -> None:
    answer = await signalbox.client.get(f"{ORG}/statistics", params={"minutes": "100000"})
    assert answer.status_code == 400


async def test_an_unknown_read_model_is_refused_with_the_names_of_the_others(signalbox: RunningApi) -> None:
    answer = await signalbox.client.post("/api/v1/readmodels/unknown/rebuild")
    assert answer.status_code == 404
    names = "deliveries, liveness, operations, resources, rollouts, windows"
    assert answer.json()["detail"] == f"There is no read model 'unknown'; there are {names}."
