"""The sample API that a first start deploys."""

import logging
from importlib import resources

from schemas.aggregates.api import API, ApiSpec, Document, PublishApi
from schemas.aggregates.deployment import DEPLOYMENT, StartDeployment
from schemas.envelope import Envelope
from signalbox.first_start.default_resources import (
    AUTHID,
    AUTHTYPE,
    GATEWAY,
    ORGANIZATION,
    PROJECT,
    FirstStartFailed,
    ReadModels,
    execute,
    system_envelope,
)
from streams.documents import DocumentStore
from streams.log import Log
from streams.submission.command_port import CommandPort

NAME = "hello"
CONTEXT = "/hello"
UPSTREAM = "http://upstream.invalid"

logger = logging.getLogger("signalbox.first-start")


def sample(upstream: str) -> str:
    """The definition of the sample API (YAML, `signalbox.io/v1`), served by `upstream` (a URL)."""
    text = resources.files("signalbox.first_start").joinpath("hello.yaml").read_text(encoding="utf-8")
    if UPSTREAM not in text:
        raise ValueError(f"the packaged sample does not mention {UPSTREAM}")
    return text.replace(UPSTREAM, upstream)


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
        await execute(
            commanding,
            [
                system_envelope(publish_id if begun is None or begun.accepted else None, publish),
                system_envelope(deploy_id if deployed is None or deployed.accepted else None, deploy),
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
        await execute(commanding, [system_envelope(None, command) for command in (publish, *again)])
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
