"""The default resources and the sample API, which the first start creates."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from schemas.aggregate import Aggregate
from schemas.aggregates.api import API, ApiSpec, Document, PublishApi
from schemas.aggregates.deployment import DEPLOYMENT, StartDeployment
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
from signalbox.sample import NAME, sample
from signalbox.settings import Settings
from streams.documents import DocumentStore
from streams.log import Log
from streams.submission.command_port import CommandPort

ORGANIZATION = "default"
PROJECT = "default"
ENVIRONMENT = "development"
GATEWAY = "local"
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
            envelopes.append(_envelope(id if before is None else None, command))
    await _execute(commanding, envelopes)


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
    await _execute(commanding, [_envelope(None, moved)])


async def deploy_sample(
    commanding: CommandPort, log: Log, read_models: ReadModels, documents: DocumentStore, upstream: str
) -> bool:
    """Publishes the sample API and deploys it, once; returns whether this version of it is deployed.

    A sample that a user has changed is not touched. An unchanged one is updated to `upstream` (a URL). The
    read models must have applied all events of earlier processes. Raises FirstStartFailed, LogUnavailable.
    """
    publish_id, deploy_id = "first-start-sample", "first-start-sample-deployment"
    events = await _events_of(log, API.subject(ORGANIZATION, NAME))
    begun = await commanding.outcome((ORGANIZATION, publish_id))
    deployed = await commanding.outcome((ORGANIZATION, deploy_id))
    deploy = StartDeployment(organization=ORGANIZATION, api=NAME, gateway=GATEWAY)
    cut_off = begun is not None and begun.accepted and (deployed is None or not deployed.accepted)
    if not events or cut_off:
        publish = await _sample(documents, upstream)
        await _execute(
            commanding,
            [
                _envelope(publish_id if begun is None or begun.accepted else None, publish),
                _envelope(deploy_id if deployed is None or deployed.accepted else None, deploy),
            ],
        )
        return True
    api = await read_models.get(API, ORGANIZATION, NAME)
    if api is None or (events[-1].authtype, events[-1].authid) != (AUTHTYPE, AUTHID):
        return False
    where = {"api": NAME, "state": "active", "revision": str(api.document["revision"])}
    page = await read_models.list(DEPLOYMENT, ORGANIZATION, where=where)
    gateways = {gateway for row in page.rows for gateway in row.document["gateways"]}
    if GATEWAY not in gateways:
        return False
    publish = await _sample(documents, upstream)
    if ApiSpec.model_validate(api.document["spec"]) != publish.spec:
        logger.info("the sample API is served by %s from now on", upstream)
        again = [
            StartDeployment(organization=ORGANIZATION, api=NAME, gateway=gateway)
            for gateway in sorted(gateways)
        ]
        await _execute(commanding, [_envelope(None, command) for command in (publish, *again)])
    return True


async def _events_of(log: Log, subject: str) -> list[Envelope]:
    found: list[Envelope] = []
    after = 0
    while records := await log.read_subject("events", subject, after=after):
        found += [record.envelope for record in records]
        after = records[-1].position
    return found


async def _sample(documents: DocumentStore, upstream: str) -> PublishApi:
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
    return PublishApi.model_validate(
        {
            "organization": ORGANIZATION,
            "name": NAME,
            "project": PROJECT,
            "spec": definition.spec,
            "document": document,
        }
    )


async def _execute(commanding: CommandPort, envelopes: Sequence[Envelope]) -> None:
    outcomes = await commanding.execute(envelopes, DECIDE_SECONDS)
    for envelope in envelopes:
        _require(envelope, outcomes.get(envelope.key))


def _require(envelope: Envelope, outcome: Outcome | None) -> None:
    if outcome is None:
        raise FirstStartFailed(f"{envelope.type} was not decided within {DECIDE_SECONDS:.0f} s")
    if not outcome.accepted and outcome.rule not in DONE_BEFORE:
        raise FirstStartFailed(f"{envelope.type} was rejected: {outcome.message}")


def _envelope(id: str | None, command: Command) -> Envelope:
    id = id or uuid7()
    return envelope_for(
        command,
        source="/signalbox/first-start",
        subject=subject_of(command, id),
        id=id,
        authtype=AUTHTYPE,
        authid=AUTHID,
    )
