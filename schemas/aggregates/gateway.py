"""Gateways: a named data plane in an environment; any number of nodes (proxies) may serve it."""

from ipaddress import ip_network
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, StringConstraints

from schemas.aggregate import Aggregate, Route
from schemas.limits import LONGEST_NETWORK, MOST_NETWORKS, AtMost
from schemas.message import Command, Event, Name, Value

TOKEN_PREFIX = "sbg_"
"""The prefix of every gateway's token."""

Digest = Annotated[
    str, StringConstraints(pattern=r"^[0-9a-f]{64}$"), Field(description="SHA-256, hexadecimal.")
]


def _network(text: str) -> str:
    """The usual form of an address or network. Raises ValueError."""
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise ValueError(f"{error}: write an address or a network such as 10.0.0.0/8") from error


Network = Annotated[
    str,
    AtMost(LONGEST_NETWORK),
    AfterValidator(_network),
    Field(description="A network of IP addresses, or one address.", examples=["127.0.0.0/8"]),
]


class GatewayFields(Value):
    environment: Name = Field(default="development", description="The environment that it belongs to.")
    kind: Literal["envoy"] = Field(default="envoy", description="The gateway product that the nodes run.")
    display_name: str = Field(
        default="", max_length=200, description="A title for people.", examples=["Public edge"]
    )
    address: str = Field(
        default="127.0.0.1",
        max_length=253,
        description="The address that the nodes listen on for requests.",
        examples=["0.0.0.0"],
    )
    port: int = Field(
        default=8000, ge=1, le=65535, description="The port that the nodes listen on at that address."
    )
    revision_header: bool = Field(
        default=True, description="Answer with the API and revision in `x-signalbox-revision`."
    )
    escaped_slashes: Literal["reject", "redirect", "decode"] = Field(
        default="reject",
        description="Handling of a path with `%2F` or `%5C`: answer 400, redirect to the decoded "
        "path, or decode it and go on.",
    )
    underscore_headers: Literal["reject", "drop", "allow"] = Field(
        default="reject",
        description="Handling of headers with an underscore in their name, which some servers "
        "take for a hyphen: answer 400, drop the header, or let it pass.",
    )
    trusted_proxies: int = Field(
        default=0,
        ge=0,
        le=10,
        description="The number of proxies in front of the nodes. With 0 the content of "
        "`Forwarded` and `X-Forwarded-*` is dropped; else it is believed as far as these proxies added it.",
    )
    allowed_upstreams: Annotated[tuple[Network, ...], AtMost(MOST_NETWORKS)] = Field(
        default=(),
        description="Networks that upstreams may be in although gateways do not reach them by default: "
        "loopback (outside the environment `development`), link-local and metadata addresses, multicast.",
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
