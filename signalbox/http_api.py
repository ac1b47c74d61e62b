"""The HTTP API of a process, and the sample that a first start deploys."""

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.types import ASGIApp

from api.app import create_app
from api.authentication import FileTokenAuthenticator
from api.ports import Services
from api.ports import Settings as ApiSettings
from projections.queries import ReadModels
from signalbox.first_start.default_resources import move_gateway
from signalbox.first_start.demo import Demo
from signalbox.first_start.sample import deploy_sample
from signalbox.observability.gauges import ReadModelGauges
from signalbox.observability.http_telemetry import MeasuredApp, TracedApp
from signalbox.observability.telemetry import Telemetry
from signalbox.observability.tracing import traceparent_of_request
from signalbox.roles.database import Checkpoints
from signalbox.service_group import ServiceGroup
from signalbox.settings import Settings
from streams.compute_process import Compute
from streams.documents import DocumentStore
from streams.kafka.settings import KafkaSettings
from streams.log import Log
from streams.submission.command_port import CommandPort


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpApi:
    settings: Settings
    group: ServiceGroup
    telemetry: Telemetry
    commands: CommandPort
    log: Log
    read_models: ReadModels
    checkpoints: Checkpoints
    documents: DocumentStore
    kafka: KafkaSettings
    compute: Compute

    def application(self, ready: Callable[[], str | None], stopping: asyncio.Event) -> ASGIApp:
        """`ready` returns the reason why the process is not ready; `stopping` ends the live streams."""
        services = Services(
            commands=self.commands,
            read_models=self.read_models,
            read_model_runner=self.checkpoints,
            dead_letters=self.checkpoints,
            log=self.log,
            documents=self.documents,
            authenticator=FileTokenAuthenticator(self.settings.admin_token),
            ready=ready,
            metrics=self.telemetry.exposition,
            stopping=stopping,
            settings=ApiSettings(max_body=self.settings.max_body, max_command=self.kafka.max_message),
            traceparent=traceparent_of_request,
            compute=self.compute,
        )
        app = create_app(services, partial(_asyncapi, self.kafka.prefix))
        return MeasuredApp(TracedApp(app), self.telemetry.requests.record)

    def measure(self) -> None:
        """Runs the gauges of the read models with the group."""
        gauges = ReadModelGauges(self.telemetry, self.checkpoints.lag, self.read_models)
        self.group.run("gauges", gauges.run())

    async def deploy_sample(self, listening: socket.socket | None) -> bool:
        """Moves the local gateway to its address and deploys the sample API, as far as the settings ask for
        it; whether the sample is deployed. The service behind it uses the socket `listening`; without one
        there is no sample. The read models must hold all events of earlier starts.

        Raises FirstStartFailed, LogUnavailable.
        """
        if not self.settings.envoy:
            return False
        await move_gateway(self.commands, self.read_models, self.settings)
        if listening is None:
            return False
        demo = self.group.closed_at_stop(Demo())
        await demo.start(listening)
        return await deploy_sample(self.commands, self.log, self.read_models, self.documents, demo.url)


def _asyncapi(prefix: str) -> Mapping[str, Any]:
    from schemas.codecs import asyncapi

    return asyncapi.document(prefix)
