"""The list of all aggregates, and look-ups derived from it."""

from collections.abc import Mapping
from types import MappingProxyType

from schemas.aggregate import Aggregate
from schemas.aggregates.api import API
from schemas.aggregates.deployment import DEPLOYMENT
from schemas.aggregates.environment import ENVIRONMENT
from schemas.aggregates.gateway import GATEWAY
from schemas.aggregates.organization import ORGANIZATION
from schemas.aggregates.project import PROJECT
from schemas.message import Command, Event, Message
from schemas.outcome import Outcome
from schemas.parked import PARKED
from schemas.status import STATUSES

AGGREGATES: tuple[Aggregate, ...] = (ORGANIZATION, PROJECT, ENVIRONMENT, GATEWAY, API, DEPLOYMENT)

BY_NAME: Mapping[str, Aggregate] = MappingProxyType({a.name: a for a in AGGREGATES})
BY_PLURAL: Mapping[str, Aggregate] = MappingProxyType({a.plural: a for a in AGGREGATES})
COMMANDS: Mapping[str, type[Command]] = MappingProxyType(
    {c.type(): c for a in AGGREGATES for c in a.commands}
)
EVENTS: Mapping[str, type[Event]] = MappingProxyType({e.type(): e for a in AGGREGATES for e in a.events})
MESSAGES: Mapping[str, type[Message]] = MappingProxyType(
    {**COMMANDS, **EVENTS, Outcome.type(): Outcome, **{m.type(): m for m in (*STATUSES, *PARKED)}}
)


def subject_of(message: Message, command_id: str = "") -> str:
    """The subject of a message; a command without a name names its resource by the command's id."""
    return BY_NAME[message.aggregate].subject(message.organization, message.name or command_id)
