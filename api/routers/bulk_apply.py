"""Many definitions in one request: read, published together, and deployed on request."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from starlette.responses import Response

from api.call import Call
from api.definition_reader import (
    YAML,
    InvalidDefinition,
    ParsedDefinition,
    SourceFile,
    read_all,
    store_document,
)
from api.dependencies import ORGANIZATION, OptionalText, OrganizationContext, boolean
from api.limits import log_failure
from api.preconditions import media_type
from api.problems import (
    Error,
    Problem,
    invalid_parameter,
    problem_of_outcome,
    problem_of_validation,
    unavailable,
)
from api.resources.gateways import registration
from api.resources.presenter import json_object
from api.responses import JSON, NO_STORE, POSITION, RawResponse, json_response
from api.routers import bulk_apply_schemas as schemas
from api.routing.route import ApiRoute, problems, request_body, response_headers
from api.submission import CommandDraft, envelope, resource_of, validated, wait_for_read_model
from projections.failures import ReadModelsUnavailable
from schemas.aggregate import Aggregate
from schemas.aggregates.api import API, PublishApi
from schemas.aggregates.deployment import DEPLOYMENT, StartDeployment
from schemas.aggregates.gateway import GATEWAY, ChangeGateway, RegisterGateway
from schemas.catalog import AGGREGATES, BY_NAME
from schemas.envelope import Envelope, MessageKey
from schemas.identity import uuid7
from schemas.message import Command, Name
from schemas.outcome import Outcome
from streams.log import LogUnavailable
from streams.projection.waiters import RunnerStopped

router = APIRouter(prefix=ORGANIZATION, tags=["apply"], route_class=ApiRoute)

_COUNTERPARTS: Mapping[tuple[str, str], type[Command]] = {
    (ChangeGateway.type(), "not-found"): RegisterGateway,
    (RegisterGateway.type(), "already-exists"): ChangeGateway,
}
"""The other command of a gateway (created and changed by different ones), by command and rejecting rule."""

_RANKS = {command.type(): rank for rank, a in enumerate(AGGREGATES) for command in a.commands}


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ApplyDocument(_Strict):
    """One file: its text, and its name in findings."""

    source: str = Field(default="", max_length=1000)
    content: str


class DeployTarget(_Strict):
    """The gateway or the environment to deploy to."""

    gateway: Name | None = None
    environment: Name | None = None

    @model_validator(mode="after")
    def _one(self) -> "DeployTarget":
        if (self.gateway is None) == (self.environment is None):
            raise ValueError("give exactly one of gateway and environment")
        return self


class ApplyRequest(_Strict):
    documents: tuple[ApplyDocument, ...] = Field(min_length=1)
    deploy: DeployTarget | None = None


@dataclass(slots=True)
class _Item:
    """One definition with its commands and their outcomes."""

    source: str
    line: int
    kind: str
    name: str
    findings: Sequence[Error] = ()
    command: Envelope | None = None
    kept: bool = False
    draft: CommandDraft = field(default_factory=lambda: CommandDraft({}))
    outcome: Outcome | None = None
    revision: int | None = None
    deploy: Envelope | None = None
    deployed: Outcome | None = None
    problem: Problem | None = None

    @property
    def result(self) -> str:
        if self.command is None:
            return "unchanged" if self.kept else "invalid"
        if self.outcome is None:
            return "pending"
        if not self.outcome.accepted:
            return "rejected"
        if not self.outcome.events:
            return "unchanged"
        new = self.command.type == RegisterGateway.type() or self.revision == 1
        return "created" if new or self.outcome.version == self.outcome.events else "changed"

    @property
    def deployment_result(self) -> str | None:
        if self.deployed is None or not self.deployed.accepted:
            return None
        return "started" if self.deployed.events else "unchanged"

    def shown(self) -> dict[str, Any]:
        outcome, deployed = self.outcome, self.deployed
        accepted = outcome is not None and outcome.accepted
        shown: dict[str, Any] = {
            "source": self.source,
            "line": self.line,
            "kind": self.kind,
            "name": self.name,
            "result": self.result,
            "version": outcome.version if outcome and accepted else None,
            "revision": self.revision,
            "position": max((o.position for o in (outcome, deployed) if o), default=None),
            "operation": self.command.id if self.command else None,
            "deployment": resource_of(deployed)[1] if deployed and deployed.accepted else None,
            "deployment_result": self.deployment_result,
            "requested_at": outcome.requested_at if outcome else None,
            "decided_at": outcome.decided_at if outcome else None,
            "findings": list(self.findings),
        }
        if outcome is None or outcome.accepted:
            shown.update(self.draft.secret)
        problem = self.problem
        for decided in (outcome, deployed):
            if decided is not None and not decided.accepted:
                problem = problem_of_outcome(decided)
        if problem is not None:
            shown["problem"] = problem.document()
        return shown


@router.post(
    "/apply",
    operation_id="apply",
    summary="Publish, and deploy, any number of definitions",
    description="Valid ones are submitted together, invalid ones reported. Waits for all outcomes.",
    response_class=RawResponse,
    response_description="One item per document, in order.",
    responses={
        200: {
            "content": {JSON: {"schema": schemas.RESPONSE, "example": schemas.RESPONSE["examples"][0]}},
            "headers": response_headers(POSITION),
        },
        **problems(503),
    },
    openapi_extra={
        "requestBody": request_body(
            {
                JSON: (schemas.BODY, schemas.BODY["examples"][0]),
                **{media: ({"type": "string"}, "kind: API\n") for media in sorted(YAML)},
            }
        )
    },
)
async def apply(
    call: OrganizationContext,
    deploy: Annotated[
        bool,
        boolean("deploy"),
        Query(description="Deploy the published APIs, if the body has no `deploy`."),
    ] = False,
    to: Annotated[OptionalText, Query(description="The gateway to deploy to; `local` when left out.")] = None,
    source: Annotated[
        OptionalText, Query(description="The name in findings of a definition sent as YAML.")
    ] = None,
) -> Response:
    # One append writes the commands of all valid definitions, a second one their deployments.
    texts, target = await _parse_request(call, _target(to or "local") if deploy else None, source)
    read = [(text, one) async for text, found in read_all(texts, call.services.compute) for one in found]
    # Together, so that their documents share a commit.
    items = await asyncio.gather(*(_item(call, text, one) for text, one in read))
    await _publish(call, items)
    if target is not None:
        try:
            await _deploy(call, items, target)
        except (LogUnavailable, ReadModelsUnavailable) as error:
            _not_deployed(items, error)
    outcomes = [o for i in items for o in (i.outcome, i.deployed) if o is not None]
    outcomes = [o for o in outcomes if o.organization == call.organization]
    position = max((o.position for o in outcomes), default=0)
    if position:
        # The caller may read next what the answer names. Without read models it gets the answer, too.
        with suppress(ReadModelsUnavailable, RunnerStopped):
            await wait_for_read_model(call, call.partition, position, call.services.settings.position_seconds)
    position = position or await call.services.log.end("events", call.partition)
    answer = {"items": [item.shown() for item in items], "position": position}
    return json_response(200, answer, {POSITION: f"{call.partition}:{position}", **NO_STORE})


async def _parse_request(
    call: Call, target: DeployTarget | None, source: str | None
) -> tuple[list[SourceFile], DeployTarget | None]:
    """The files and the target: both from the body, or from a definition and query parameters."""
    body = await call.request.body()
    if media_type(call.header("content-type")) in YAML:
        return [SourceFile(source or "", body)], target
    try:
        asked = ApplyRequest.model_validate(json_object(body))
    except ValidationError as error:
        raise problem_of_validation(error) from error
    most = call.services.settings.apply_documents
    if len(asked.documents) > most:
        detail = f"One request takes up to {most} documents."
        errors = [{"pointer": "/documents", "detail": f"has {len(asked.documents):,} items"}]
        raise Problem(422, "too-many-documents", detail, errors=errors, limit=most)
    texts = [SourceFile(d.source, d.content.encode()) for d in asked.documents]
    return texts, asked.deploy or target


def _target(gateway: str) -> DeployTarget:
    """Raises Problem 400: before anything is published."""
    try:
        return DeployTarget(gateway=gateway)
    except ValidationError as error:
        raise invalid_parameter("to", "`to` is the name of a gateway.", "is not a name") from error


async def _item(call: Call, text: SourceFile, one: ParsedDefinition | InvalidDefinition) -> _Item:
    item = _Item(text.source, one.line, one.kind, one.name, one.findings)
    if isinstance(one, InvalidDefinition):
        return item
    if one.command is None:
        return await _existing_deployment(call, item, one.fields)
    top = BY_NAME[one.command.aggregate].top
    organization = one.name if top else call.organization
    if not call.principal.may_access(organization):
        item.problem = Problem(403, "forbidden", f"The token is not good for the {one.kind} {one.name!r}.")
        item.findings = [*item.findings, {"pointer": "/metadata/name", "detail": item.problem.detail}]
        return item
    item.draft = CommandDraft({**one.fields, "organization": organization, "name": one.name})
    if one.command is PublishApi:
        item.draft = CommandDraft({**item.draft.fields, "document": await store_document(call, one)})
    command = one.command
    if command is ChangeGateway and await _is_new(call, GATEWAY, one.name):
        command, item.draft = RegisterGateway, registration(item.draft.fields)
    try:
        item.command = _envelope(call, command, item.draft.fields)
    except Problem as problem:
        item.findings = [*item.findings, *problem.errors]
        item.problem = problem
    return item


async def _is_new(call: Call, aggregate: Aggregate, name: str) -> bool:
    return await call.services.read_models.get(aggregate, call.organization, name) is None


async def _existing_deployment(call: Call, item: _Item, fields: Mapping[str, Any]) -> _Item:
    """The item of a document about a deployment: it must exist, and the document must not change it."""
    there = await call.services.read_models.get(DEPLOYMENT, call.organization, item.name)
    if there is None:
        detail = (
            f"there is no deployment {item.name!r}, and a file creates none: deploy with `signalbox deploy`, "
            "or `signalbox apply --deploy`"
        )
        error = {"pointer": "/kind", "detail": detail, "rule": "unknown-kind", "line": item.line}
        item.findings = [*item.findings, error]
        return item
    edited = [
        {
            "pointer": f"/spec/{to_camel(name)}",
            "detail": f"{to_camel(name)} of the deployment {item.name!r} is {there.document[name]!r}, and a "
            "deployment does not change: deploy with `signalbox deploy`",
            "rule": "immutable",
            "line": item.line,
        }
        for name, value in fields.items()
        if name in there.document and there.document[name] != value
    ]
    item.findings = [*item.findings, *edited]
    item.kept = not edited
    return item


async def _publish(call: Call, items: Sequence[_Item]) -> None:
    good = [i for i in items if i.command is not None]
    # In the order of the catalog: a resource comes after those it refers to.
    commands = sorted((i.command for i in good if i.command is not None), key=_rank)
    outcomes = await _outcomes(call, commands)
    for item in good:
        if item.command is not None:
            item.outcome = outcomes.get(item.command.key)
    await _retry_with_counterpart(call, good)
    await _add_revisions(call, [i for i in good if i.outcome is not None and i.outcome.accepted])


async def _retry_with_counterpart(call: Call, items: Sequence[_Item]) -> None:
    """Submits the other command for gateways that were created or removed since the read models were read."""
    mistaken: list[_Item] = []
    for item in items:
        rule = item.outcome.rule if item.outcome is not None else ""
        if item.command is None or (item.command.type, rule) not in _COUNTERPARTS:
            continue
        given = {k: v for k, v in item.draft.fields.items() if k != "token_digest"}
        command = _COUNTERPARTS[item.command.type, rule]
        item.draft = registration(given) if command is RegisterGateway else CommandDraft(given)
        item.command = _envelope(call, command, item.draft.fields)
        mistaken.append(item)
    outcomes = await _outcomes(call, [i.command for i in mistaken if i.command is not None])
    for item in mistaken:
        item.outcome = outcomes.get(item.command.key) if item.command is not None else None


def _rank(command: Envelope) -> int:
    return _RANKS[command.type]


async def _outcomes(call: Call, commands: Sequence[Envelope]) -> Mapping[MessageKey, Outcome]:
    if not commands:
        return {}
    return await call.services.commands.execute(commands, call.services.settings.apply_seconds)


async def _add_revisions(call: Call, items: Sequence[_Item]) -> None:
    """Adds the revision of each API: 1 after its first event, otherwise that of the read models."""
    asked: list[tuple[_Item, Outcome]] = []
    for item in items:
        outcome = item.outcome
        if outcome is None or resource_of(outcome)[0] is not API:
            continue
        if outcome.version == 1:
            item.revision = 1
        else:
            asked.append((item, outcome))
    if not asked:
        return
    settings = call.services.settings
    if not await wait_for_read_model(
        call, call.partition, max(o.position for _, o in asked), settings.apply_seconds
    ):
        return
    for item, outcome in asked:
        row = await call.services.read_models.get(API, call.organization, item.name)
        if row is not None and row.version == outcome.version:
            item.revision = row.document.get("revision")


async def _deploy(call: Call, items: Sequence[_Item], target: DeployTarget) -> None:
    """Deploys each API that was accepted, once: its last definition in the request."""
    last = {i.name: i for i in items if i.outcome and i.outcome.accepted and resource_of(i.outcome)[0] is API}
    where: dict[str, Any] = target.model_dump(exclude_none=True)
    wave: list[_Item] = []
    for item in last.values():
        fields = {"organization": call.organization, "api": item.name, **where}
        if item.revision is not None:
            fields["revision"] = item.revision
        item.deploy = _envelope(call, StartDeployment, fields)
        wave.append(item)
    outcomes = await _outcomes(call, [i.deploy for i in wave if i.deploy is not None])
    for item in wave:
        if item.deploy is not None:
            item.deployed = outcomes.get(item.deploy.key)


def _not_deployed(items: Sequence[_Item], error: Exception) -> None:
    """Reports APIs that are published but not deployed. The response keeps tokens: they are shown once."""
    for item in items:
        if item.outcome is not None and item.outcome.accepted and resource_of(item.outcome)[0] is API:
            why = log_failure(error) if isinstance(error, LogUnavailable) else str(error)
            item.problem = unavailable(f"Published, and not deployed: {why}")


def _envelope(call: Call, model: type[Command], fields: Mapping[str, Any]) -> Envelope:
    return envelope(call, model, validated(model, fields), uuid7())
