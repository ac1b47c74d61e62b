"""What gateway sync needs to know of the past, read from the register by subject when it is needed."""

from collections import OrderedDict
from typing import TypeVar

from schemas.api import ApiPublished, ApiSpec
from schemas.catalog import API, DEPLOYMENT, EVENTS, GATEWAY
from schemas.deployment import DeploymentStarted
from schemas.envelope import Envelope
from schemas.gateway import GatewayChanged, GatewayFields, GatewayRegistered
from schemas.message import Event
from schemas.upcasting import upcast
from streams.log import Log

V = TypeVar("V")


def event_of(envelope: Envelope) -> Event:
    """The typed event in its current form.

    Raises schemas.upcasting.UnknownSchema, pydantic.ValidationError.
    """
    current = upcast(envelope)
    return EVENTS[current.type].of(current.data)


class Recent(OrderedDict[str, V]):
    """The most recently used values, up to a number of them."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def keep(self, key: str, value: V) -> None:
        self[key] = value
        self.move_to_end(key)
        if len(self) > self._most:
            self.popitem(last=False)


class RegisterReading:
    """Specifications, deployments and gateway settings by name; recent ones from memory."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._specs: Recent[ApiSpec] = Recent(512)
        self._started: Recent[DeploymentStarted] = Recent(2048)
        self._gateways: dict[str, GatewayFields | None] = {}

    def notice(self, event: Event) -> None:
        """Remembers what is likely to be asked for next."""
        organization = event.organization
        match event:
            case ApiPublished():
                self._specs.keep(_revision_key(organization, event.name, event.revision), event.spec)
            case DeploymentStarted():
                self._started.keep(DEPLOYMENT.subject(organization, event.name), event)
            case GatewayRegistered() | GatewayChanged():
                self._gateways[GATEWAY.subject(organization, event.name)] = event
            case _:
                pass

    async def spec(self, organization: str, api: str, revision: int) -> ApiSpec | None:
        key = _revision_key(organization, api, revision)
        if key not in self._specs:
            for event in await self._events(API.subject(organization, api)):
                if isinstance(event, ApiPublished) and event.revision == revision:
                    self._specs.keep(key, event.spec)
        return self._specs.get(key)

    async def started(self, organization: str, deployment: str) -> DeploymentStarted | None:
        subject = DEPLOYMENT.subject(organization, deployment)
        if subject not in self._started:
            for event in await self._events(subject):
                if isinstance(event, DeploymentStarted):
                    self._started.keep(subject, event)
        return self._started.get(subject)

    async def gateway(self, organization: str, name: str) -> GatewayFields | None:
        """The newest settings; of a gateway that is gone the last ones, for what it had is to be removed.

        None when there never was such a gateway.
        """
        subject = GATEWAY.subject(organization, name)
        if subject not in self._gateways:
            self._gateways[subject] = None
            for event in await self._events(subject):
                self.notice(event)
        return self._gateways[subject]

    async def _events(self, subject: str) -> list[Event]:
        events: list[Event] = []
        after = 0
        while records := await self._log.read_subject("events", subject, after=after):
            events.extend(event_of(record.envelope) for record in records)
            after = records[-1].position
        return events


def _revision_key(organization: str, api: str, revision: int) -> str:
    return f"{organization}/{api}@{revision}"
