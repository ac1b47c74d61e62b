"""Gateways: a named data plane in an environment; any number of nodes (proxies) may serve it."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from schemas.aggregate import Aggregate, Route
from schemas.message import Command, Event, Name, Value

Digest = Annotated[
    str, StringConstraints(pattern=r"^[0-9a-f]{64}$"), Field(description="SHA-256, hexadecimal.")
]


class GatewayFields(Value):
    environment: Name = "development"
    kind: Literal["envoy"] = Field(default="envoy", description="Which product the nodes run.")
    display_name: str = Field(default="", max_length=200, examples=["Public edge"])
    address: str = Field(
        default="127.0.0.1",
        max_length=253,
        description="Where the nodes listen for requests.",
        examples=["0.0.0.0"],
    )
    port: int = Field(default=8000, ge=1, le=65535)
    revision_header: bool = Field(
        default=True, description="Answer with the API and revision in `x-signalbox-revision`."
    )


class RegisterGateway(Command, GatewayFields):
    aggregate: ClassVar[str] = "gateway"
    verb: ClassVar[str] = "register"

    token_digest: Digest = Field(description="SHA-256 of the token the nodes connect with.")


class ChangeGateway(Command, GatewayFields):
    aggregate: ClassVar[str] = "gateway"
    verb: ClassVar[str] = "change"


class RemoveGateway(Command):
    aggregate: ClassVar[str] = "gateway"
    verb: ClassVar[str] = "remove"


class GatewayRegistered(Event, GatewayFields):
    aggregate: ClassVar[str] = "gateway"
    verb: ClassVar[str] = "registered"

    token_digest: Digest


class GatewayChanged(Event, GatewayFields):
    aggregate: ClassVar[str] = "gateway"
    verb: ClassVar[str] = "changed"


class GatewayRemoved(Event):
    aggregate: ClassVar[str] = "gateway"
    verb: ClassVar[str] = "removed"
    effect = "end"


class Gateway(GatewayFields):
    name: Name


GATEWAY = Aggregate(
    name="gateway",
    plural="gateways",
    summary="A data plane: one configuration, any number of nodes.",
    view=Gateway,
    commands=(RegisterGateway, ChangeGateway, RemoveGateway),
    events=(GatewayRegistered, GatewayChanged, GatewayRemoved),
    routes=(Route("POST", RegisterGateway), Route("PUT", ChangeGateway), Route("DELETE", RemoveGateway)),
    columns=("name", "kind", "environment", "address", "port", "connected"),
)
