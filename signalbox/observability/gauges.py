"""Gauges that are polled: the lag of read models, and their dead letters."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from projections.failures import ReadModelsUnavailable
from projections.queries import ReadModels
from projections.read_transactions import NotReady
from signalbox.observability.telemetry import Telemetry
from streams.log import LogUnavailable

EVERY_SECONDS = 1.0


class ReadModelGauges:
    """Polls every second; a value that cannot be read keeps its last known value."""

    def __init__(
        self,
        telemetry: Telemetry,
        lag: Callable[[], Awaitable[Mapping[str, int]]],
        read_models: ReadModels,
    ) -> None:
        self._ask_lag = lag
        self._read_models = read_models
        self._lag: dict[str, float] = {}
        self._parked: dict[str, float] = {}
        telemetry.gauge("projection_lag_events", lambda: self._lag, "read_model")
        telemetry.gauge("parked_events", lambda: self._parked, "read_model")

    async def run(self) -> None:
        """Polls until cancelled."""
        while True:
            with suppress(ReadModelsUnavailable, NotReady, LogUnavailable):  # readiness reports them
                await self._look()
            await asyncio.sleep(EVERY_SECONDS)

    async def _look(self) -> None:
        self._lag = {name: float(lag) for name, lag in (await self._ask_lag()).items()}
        parked = dict.fromkeys(self._lag, 0.0)
        for event in await self._read_models.parked():
            parked[event["read_model"]] = parked.get(event["read_model"], 0.0) + 1
        self._parked = parked
