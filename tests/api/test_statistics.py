"""What is derived on Kafka is not claimed on the embedded engine."""

from tests.api.running_api import ORG, RunningApi


async def test_without_kafka_there_are_no_statistics_and_that_is_said(signalbox: RunningApi) -> None:
    answer = await signalbox.client.get(f"{ORG}/statistics", params={"minutes": "5"})
    assert answer.status_code == 404
    assert "Kafka" in answer.json()["detail"]


async def test_a_span_out_of_bounds_is_refused(signalbox: RunningApi) -> None:
    answer = await signalbox.client.get(f"{ORG}/statistics", params={"minutes": "100000"})
    assert answer.status_code == 400
