"""Events, outcomes and status as they stand on the log, for tests of the read side."""

from dataclasses import dataclass
from typing import Any

from schemas.aggregates.api import ApiDeleted, ApiPublished, ApiSpec, Document, content_digest
from schemas.aggregates.deployment import DeploymentStarted, DeploymentStopped, DeploymentSuperseded
from schemas.aggregates.gateway import GatewayChanged, GatewayRegistered, GatewayRemoved
from schemas.aggregates.project import ProjectDefined, ProjectDeleted
from schemas.catalog import BY_NAME
from schemas.envelope import Envelope
from schemas.identity import timestamp, uuid7
from schemas.message import Message
from schemas.outcome import Outcome
from schemas.status import DeliveryReported, NodeReported

START = 1_800_000_000.0


@dataclass(frozen=True, slots=True)
class Placed:
    """An envelope at a position."""

    partition: int
    position: int
    envelope: Envelope


def at(seconds: float) -> str:
    return timestamp(START + seconds)


def envelope(message: Message, seconds: float = 0.0, *, subject: str | None = None) -> Envelope:
    if subject is None:
        owner = BY_NAME.get(message.aggregate)
        subject = owner.subject(message.organization, message.name) if owner else message.name
    return Envelope(
        id=uuid7(),
        type=message.type(),
        source="/test",
        subject=subject,
        time=at(seconds),
        partitionkey=message.organization,
        data=message.data(),
    )


def placed(*messages: Message, first: int = 1) -> list[Placed]:
    """At positions from `first`, a second apart."""
    return [Placed(0, first + i, envelope(m, first + i)) for i, m in enumerate(messages)]


def specification(context: str = "/orders", version: str = "v1") -> ApiSpec:
    return ApiSpec.model_validate(
        {
            "version": version,
            "context": context,
            "upstreams": [{"name": "main", "endpoints": [{"url": "http://127.0.0.1:9000"}]}],
            "backends": [{"upstream": "main"}],
            "operations": [
                {"method": "GET", "path": "/orders"},
                {"method": "POST", "path": "/orders"},
                {"method": "GET", "path": "/orders/{id}"},
            ],
        }
    )


def published(
    name: str = "orders",
    revision: int = 1,
    *,
    organization: str = "acme",
    project: str = "default",
    spec: ApiSpec | None = None,
    document: Document | None = None,
) -> ApiPublished:
    what = spec or specification(f"/{name}", f"v{revision}")
    return ApiPublished(
        organization=organization,
        name=name,
        project=project,
        revision=revision,
        digest=content_digest(what),
        spec=what,
        document=document,
    )


def deleted(name: str = "orders", organization: str = "acme") -> ApiDeleted:
    return ApiDeleted(organization=organization, name=name)


def started(name: str = "d1", gateways: tuple[str, ...] = ("local",), **more: Any) -> DeploymentStarted:
    return DeploymentStarted(
        organization=more.pop("organization", "acme"),
        name=name,
        api=more.pop("api", "orders"),
        revision=more.pop("revision", 1),
        gateways=gateways,
        context="/orders",
        hosts=("*",),
        requested_at=at(0.5),
        **more,
    )


def superseded(name: str, by: str, left: tuple[str, ...] = ()) -> DeploymentSuperseded:
    state = "active" if left else "superseded"
    return DeploymentSuperseded(organization="acme", name=name, by=by, gateways=left, state=state)


def stopped(name: str, left: tuple[str, ...] = ("local",)) -> DeploymentStopped:
    return DeploymentStopped(organization="acme", name=name, left=left)


def project(name: str, title: str = "", organization: str = "acme") -> ProjectDefined:
    return ProjectDefined(organization=organization, name=name, display_name=title)


def project_deleted(name: str, organization: str = "acme") -> ProjectDeleted:
    return ProjectDeleted(organization=organization, name=name)


def gateway(name: str, port: int = 8000) -> GatewayRegistered:
    return GatewayRegistered(organization="acme", name=name, port=port, token_digest="0" * 64)


def gateway_changed(name: str, port: int) -> GatewayChanged:
    return GatewayChanged(organization="acme", name=name, port=port)


def gateway_removed(name: str) -> GatewayRemoved:
    return GatewayRemoved(organization="acme", name=name)


def outcome(command_id: str, **more: Any) -> Outcome:
    return Outcome.model_validate(
        {
            "organization": "acme",
            "name": command_id,
            "command": "io.signalbox.api.command.publish.v1",
            "subject": "organizations/acme/apis/orders",
            "digest": "0" * 64,
            "accepted": True,
            "requested_at": at(0),
            "decided_at": at(1),
            "position": 1,
            **more,
        }
    )


def delivery(deployment: str, fact: str, seconds: float, **more: Any) -> DeliveryReported:
    return DeliveryReported.model_validate(
        {
            "organization": "acme",
            "name": more.pop("gateway", "local"),
            "deployment": deployment,
            "api": "orders",
            "revision": 1,
            "fact": fact,
            "at": at(seconds),
            **more,
        }
    )


def node(name: str, connected: bool, seconds: float, **more: Any) -> NodeReported:
    return NodeReported.model_validate(
        {
            "organization": "acme",
            "name": more.pop("gateway", "local"),
            "node": name,
            "connected": connected,
            "at": at(seconds),
            **more,
        }
    )
