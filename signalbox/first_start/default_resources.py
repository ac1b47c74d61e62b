"""The default resources of the first start, and the gateway that `signalbox up` runs a node of."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from schemas.aggregate import Aggregate
from schemas.aggregates.environment import DefineEnvironment
from schemas.aggregates.gateway import ChangeGateway, GatewayFields, RegisterGateway
from schemas.aggregates.organization import DefineOrganization
from schemas.aggregates.project import DefineProject
from schemas.catalog import GATEWAY as GATEWAYS
from schemas.catalog import subject_of
from schemas.codecs.canonical import sha256_hex
from schemas.envelope import Envelope
from schemas.envelopes import envelope_for
from schemas.identity import uuid7
from schemas.message import Command
from schemas.outcome import Outcome
from signalbox.settings import Settings
from streams.submission.command_port import CommandPort

ORGANIZATION = "default"
PROJECT = "default"
ENVIRONMENT = "development"
GATEWAY = "local"
NODE = "envoy-1"
LOCAL_GATEWAY = GATEWAYS.subject(ORGANIZATION, GATEWAY)
DECIDE_SECONDS = 30.0
DONE_BEFORE = frozenset({"already-exists", "command-id-reused"})
"""Rules of rejections after an earlier creation; a process that starts at the same time may have used
another port."""
AUTHTYPE, AUTHID = "system", "signalbox"

logger = logging.getLogger("signalbox.first-start")


class Row(Protocol):
    @property
    def document(self) -> Mapping[str, Any]: ...


class Rows(Protocol):
    @property
    def rows(self) -> Sequence[Row]: ...


class ReadModels(Protocol):
    """The queries on read models that are needed here."""

    async def get(self, aggregate: Aggregate, organization: str, name: str, /) -> Row | None: ...

    async def list(self, aggregate: Aggregate, organization: str, /, *, where: Mapping[str, str]) -> Rows: ...


class FirstStartFailed(Exception):
    """The default resources could not be created."""


async def create_default_resources(commanding: CommandPort, settings: Settings, gateway_token: str) -> None:
    """Creates organization, project, environment and gateway; does nothing when they were created before.

    Raises FirstStartFailed, LogUnavailable.
    """
    commands: dict[str, Command] = {
        "organization": DefineOrganization(organization=ORGANIZATION, name=ORGANIZATION),
        "project": DefineProject(organization=ORGANIZATION, name=PROJECT),
        "environment": DefineEnvironment(organization=ORGANIZATION, name=ENVIRONMENT),
        "gateway": RegisterGateway(
            organization=ORGANIZATION,
            name=GATEWAY,
            environment=ENVIRONMENT,
            address=settings.gateway.host,
            port=settings.gateway.port,
            token_digest=sha256_hex(gateway_token.encode()),
        ),
    }
    envelopes: list[Envelope] = []
    for what, command in commands.items():
        # Their ids never change: a command id is decided once, so a later start changes nothing. A rejected
        # command (an invalid address, say) is sent again under a new id.
        id = f"first-start-{what}"
        before = await commanding.outcome((ORGANIZATION, id))
        if before is None or not before.accepted:
            envelopes.append(system_envelope(id if before is None else None, command))
    await execute(commanding, envelopes)


async def move_gateway(commanding: CommandPort, read_models: ReadModels, settings: Settings) -> None:
    """Moves the local gateway to the address in the settings, when it has another one.

    Raises FirstStartFailed, LogUnavailable.
    """
    row = await read_models.get(GATEWAYS, ORGANIZATION, GATEWAY)
    if row is None or (row.document["address"], row.document["port"]) == (
        settings.gateway.host,
        settings.gateway.port,
    ):
        return
    fields = {name: row.document[name] for name in GatewayFields.model_fields if name in row.document}
    moved = ChangeGateway.model_validate(
        {
            **fields,
            "organization": ORGANIZATION,
            "name": GATEWAY,
            "address": settings.gateway.host,
            "port": settings.gateway.port,
        }
    )
    logger.info("the gateway %s listens at %s from now on", GATEWAY, settings.gateway)
    await execute(commanding, [system_envelope(None, moved)])


async def execute(commanding: CommandPort, envelopes: Sequence[Envelope]) -> None:
    """Raises FirstStartFailed unless each command is accepted, or was before; LogUnavailable."""
    outcomes = await commanding.execute(envelopes, DECIDE_SECONDS)
    for envelope in envelopes:
        _require(envelope, outcomes.get(envelope.key))


def _require(envelope: Envelope, outcome: Outcome | None) -> None:
    if outcome is None:
        raise FirstStartFailed(f"{envelope.type} was not decided within {DECIDE_SECONDS:.0f} s")
    if not outcome.accepted and outcome.rule not in DONE_BEFORE:
        raise FirstStartFailed(f"{envelope.type} was rejected: {outcome.message}")


def system_envelope(id: str | None, command: Command) -> Envelope:
    """A command of Signalbox itself, under a new id if `id` is None."""
    id = id or uuid7()
    return envelope_for(
        command,
        source="/signalbox/first-start",
        subject=subject_of(command, id),
        id=id,
        authtype=AUTHTYPE,
        authid=AUTHID,
    )
