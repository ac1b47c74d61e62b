"""What exists from the first start on: a house to put APIs in, and the sample."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from schemas.aggregate import Aggregate
from schemas.api import Document, PublishApi
from schemas.avro import dataschema
from schemas.canonical import sha256_hex
from schemas.catalog import GATEWAY as GATEWAYS
from schemas.catalog import subject_of
from schemas.deployment import StartDeployment
from schemas.envelope import Envelope
from schemas.environment import DefineEnvironment
from schemas.gateway import ChangeGateway, GatewayFields, RegisterGateway
from schemas.identity import timestamp, uuid7
from schemas.message import Command
from schemas.organization import DefineOrganization
from schemas.outcome import Outcome
from schemas.project import DefineProject
from signalbox.sample import NAME, sample
from signalbox.settings import Settings
from streams.commanding import Commanding
from streams.documents import DocumentStore

ORGANIZATION = "default"
PROJECT = "default"
ENVIRONMENT = "development"
GATEWAY = "local"
DECIDE_SECONDS = 30.0

logger = logging.getLogger("signalbox.first-start")


class Row(Protocol):
    @property
    def document(self) -> Mapping[str, Any]: ...


class ReadModels(Protocol):
    """What is asked of the read models here."""

    async def get(self, aggregate: Aggregate, organization: str, name: str, /) -> Row | None: ...


class FirstStartFailed(Exception):
    """What every Signalbox begins with could not be made."""


async def make_house(commanding: Commanding, settings: Settings, gateway_token: str) -> None:
    """Organization, project, environment and gateway; does nothing when they were made before.

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
        # Their ids never change: a command id is decided once, so a later start changes nothing. What was
        # rejected (an address that is none, say) is asked for anew.
        id = f"first-start-{what}"
        before = await commanding.outcome((ORGANIZATION, id))
        if before is None or not before.accepted:
            envelopes.append(_envelope(id if before is None else None, command))
    await _execute(commanding, envelopes)


async def move_gateway(commanding: Commanding, read_models: ReadModels, settings: Settings) -> None:
    """Has our own gateway listen where this process was told, when that is not where it did.

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
    await _execute(commanding, [_envelope(None, moved)])


async def deploy_sample(commanding: Commanding, documents: DocumentStore, upstream: str) -> None:
    """Publishes the sample API with its present upstream and deploys it.

    Raises FirstStartFailed, LogUnavailable.
    """
    from definitions.reading import read

    reading = read(sample(upstream).encode(), "hello.yaml")
    if reading.findings or len(reading.definitions) != 1:
        raise FirstStartFailed(f"the sample cannot be read: {reading.findings}")
    (definition,) = reading.definitions
    document = Document(
        sha256=await documents.put(definition.content, definition.media_type),
        media_type=definition.media_type,
        size=len(definition.content),
        form=definition.form,
    )
    publish = PublishApi.model_validate(
        {
            "organization": ORGANIZATION,
            "name": NAME,
            "project": PROJECT,
            "spec": definition.spec,
            "document": document,
        }
    )
    deploy = StartDeployment(organization=ORGANIZATION, api=NAME, gateway=GATEWAY)
    await _execute(commanding, [_envelope(None, publish), _envelope(None, deploy)])


async def _execute(commanding: Commanding, envelopes: Sequence[Envelope]) -> None:
    outcomes = await commanding.execute(envelopes, DECIDE_SECONDS)
    for envelope in envelopes:
        _require(envelope, outcomes.get(envelope.key))


def _require(envelope: Envelope, outcome: Outcome | None) -> None:
    if outcome is None:
        raise FirstStartFailed(f"{envelope.type} was not decided within {DECIDE_SECONDS:.0f} s")
    if not outcome.accepted and outcome.rule != "already-exists":
        raise FirstStartFailed(f"{envelope.type} was rejected: {outcome.message}")


def _envelope(id: str | None, command: Command) -> Envelope:
    id = id or uuid7()
    return Envelope(
        id=id,
        type=command.type(),
        source="/signalbox/first-start",
        subject=subject_of(command, id),
        time=timestamp(),
        partitionkey=command.organization,
        data=command.data(),
        dataschema=dataschema(type(command)),
        authtype="system",
        authid="signalbox",
    )
