"""Earlier events for gateway sync, read from the event log by subject on demand."""

import logging
from collections import OrderedDict
from typing import TypeVar

from pydantic import ValidationError

from schemas.aggregates.api import ApiPublished, ApiSpec
from schemas.aggregates.deployment import DeploymentStarted
from schemas.aggregates.gateway import GatewayChanged, GatewayFields, GatewayRegistered
from schemas.catalog import API, DEPLOYMENT, EVENTS, GATEWAY
from schemas.envelope import Envelope
from schemas.message import Event
from schemas.upcasting import UnknownSchema, upcast
from streams.log import Log

V = TypeVar("V")

logger = logging.getLogger("signalbox.gateway-sync")


class NotInLog(LookupError):
    """The event log has no event, readable by this version, of a resource that another event refers to."""


class Unreadable(ValueError):
    """The data of an event does not fit its type. The text has the fields, without their values."""


def event_of(envelope: Envelope) -> Event:
    """The typed event in its current form. Raises UnknownSchema, Unreadable."""
    try:
        current = upcast(envelope)
        model = EVENTS.get(current.type)
        if model is None:
            raise UnknownSchema(current.type)
        return model.of(current.data)
    except KeyError as error:
        raise Unreadable(f"{envelope.type}, of an older form, lacks {error}") from error
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        places = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in problems)
        raise Unreadable(f"{envelope.type} is not valid: {'; '.join(places)}") from error


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


class EventHistory:
    """Specifications, deployments and gateway settings by name; recent ones from memory."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._specs: Recent[ApiSpec] = Recent(512)
        self._started: Recent[DeploymentStarted] = Recent(2048)
        self._gateways: dict[str, GatewayFields] = {}

    def notice(self, event: Event) -> None:
        """Keeps an event that is likely to be needed next."""
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

    async def spec(self, organization: str, api: str, revision: int) -> ApiSpec:
        """Raises NotInLog, LogUnavailable, LogDamaged."""
        key = _revision_key(organization, api, revision)
        if key not in self._specs:
            for event in await self._events(API.subject(organization, api)):
                if isinstance(event, ApiPublished) and event.revision == revision:
                    self._specs.keep(key, event.spec)
        if key not in self._specs:
            raise NotInLog(f"revision {revision} of the API {api} is not in the event log")
        return self._specs[key]

    async def started(self, organization: str, deployment: str) -> DeploymentStarted:
        """Raises NotInLog, LogUnavailable, LogDamaged."""
        subject = DEPLOYMENT.subject(organization, deployment)
        if subject not in self._started:
            for event in await self._events(subject):
                if isinstance(event, DeploymentStarted):
                    self._started.keep(subject, event)
        if subject not in self._started:
            raise NotInLog(f"the start of the deployment {deployment} is not in the event log")
        return self._started[subject]

    async def gateway(self, organization: str, name: str) -> GatewayFields:
        """The latest settings; also of a removed gateway, whose resources are to be removed.

        After an error, the next call reads again. Raises NotInLog, LogUnavailable, LogDamaged.
        """
        subject = GATEWAY.subject(organization, name)
        if subject not in self._gateways:
            for event in await self._events(subject):
                self.notice(event)
        if subject not in self._gateways:
            raise NotInLog(f"the gateway {name} is not in the event log")
        return self._gateways[subject]

    async def registered(self, organization: str, name: str) -> GatewayRegistered | None:
        """The last registration of a gateway, if any. Raises LogUnavailable, LogDamaged."""
        events = await self._events(GATEWAY.subject(organization, name))
        return next((event for event in reversed(events) if isinstance(event, GatewayRegistered)), None)

    async def gateway_before(self, organization: str, name: str, position: int) -> GatewayFields | None:
        """The settings that were known before the event at a position; None when there were none.

        Raises LogUnavailable, LogDamaged.
        """
        subject = GATEWAY.subject(organization, name)
        if subject in self._gateways:
            return self._gateways[subject]
        events = await self._events(subject, before=position)
        settings = [event for event in events if isinstance(event, GatewayRegistered | GatewayChanged)]
        return settings[-1] if settings else None

    async def _events(self, subject: str, before: int | None = None) -> list[Event]:
        """The events about a subject that this version can read, before a position."""
        events: list[Event] = []
        after = 0
        while records := await self._log.read_subject("events", subject, after=after):
            for record in records:
                if before is not None and record.position >= before:
                    return events
                try:
                    events.append(event_of(record.envelope))
                except (UnknownSchema, Unreadable) as error:
                    logger.warning("%s/%d at %d: %s", record.topic, record.partition, record.position, error)
            after = records[-1].position
        return events


def _revision_key(organization: str, api: str, revision: int) -> str:
    return f"{organization}/{api}@{revision}"
