"""What is measured by looking, not by happening: lag, proxies, quarantine, parked events."""

import asyncio
from collections.abc import Callable

from projections.queries import ReadModels
from signalbox.delivery import Delivery
from signalbox.telemetry import Telemetry
from streams.projecting import ProjectionRunner

EVERY_SECONDS = 1.0


class Gauges:
    """Looks every second at what takes a query, and at the rest when the metrics are read."""

    def __init__(
        self,
        telemetry: Telemetry,
        runner: ProjectionRunner,
        read_models: ReadModels,
        delivery: Delivery,
        quarantined: Callable[[], int],
    ) -> None:
        self._runner = runner
        self._read_models = read_models
        self._lag: dict[str, float] = {}
        self._parked: dict[str, float] = {}
        telemetry.gauge("projection_lag_events", lambda: self._lag, "read_model")
        telemetry.gauge("parked_events", lambda: self._parked, "read_model")
        telemetry.gauge("connected_proxies", lambda: {"": len(delivery.proxies)})
        telemetry.gauge("quarantined_resources", lambda: {"": quarantined()})

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            self._lag = {name: float(lag) for name, lag in (await self._runner.lag()).items()}
            parked = dict.fromkeys(self._lag, 0.0)
            for event in await self._read_models.parked():
                parked[event["read_model"]] = parked.get(event["read_model"], 0.0) + 1
            self._parked = parked
            await asyncio.sleep(EVERY_SECONDS)
