"""Reports of gateways. Folded to first and last occurrence; never on the event log."""

from typing import ClassVar, Literal

from pydantic import Field

from schemas.message import Message, Name, Value

Fact = Literal["published", "sent", "acknowledged", "refused", "serving", "withdrawn"]
NodeExceptionState = Literal["pending", "refused"]
MOST_EXCEPTIONS = 100

RolloutState = Literal[
    "pending",
    "rolling-out",
    "acknowledged",
    "serving",
    "partly-refused",
    "refused",
    "offline",
    "stopping",
    "stopped",
]
LivenessState = Literal["healthy", "degraded", "offline"]


class Status(Message):
    """`io.signalbox.status.<verb>.v1`; `name` is the gateway, of a rollout the deployment."""

    aggregate: ClassVar[str] = "status"

    at: str


class DeliveryReported(Status):
    """How far one deployment has come on one node (`*` for the gateway as a whole)."""

    verb: ClassVar[str] = "delivery"

    deployment: Name
    node: str = "*"
    fact: Fact
    version: str = ""
    reason: str = ""
    api: str = Field(default="", description="The API that is deployed; empty from older versions.")
    revision: int = Field(default=0, ge=0, description="Its revision; 0 from older versions.")
    position: int = Field(
        default=0,
        ge=0,
        description="Position of the event that caused the configuration; 0 from older versions.",
    )
    connection: str = Field(
        default="",
        max_length=64,
        description="The node's connection on which this was observed; empty for the gateway as a whole.",
    )


class NodeException(Value):
    """A deployment that a node does not run, although it acknowledged the position it was published at."""

    deployment: Name
    state: NodeExceptionState
    reason: str = ""


class NodeReported(Status):
    """The observed state of a node (proxy) of a gateway: whether it is connected, and what it acknowledged.

    Reported when the node connects, when it has caught up, with each heartbeat and when it leaves. A new
    `connection` voids whatever was reported of the node on earlier ones.
    """

    verb: ClassVar[str] = "node"

    node: str
    connected: bool
    agent: str = Field(default="", description="What the node runs, such as `envoy 1.40.0`.")
    connection: str = Field(
        default="", max_length=64, description="Identifies the connection; empty from older versions."
    )
    connections: int = Field(
        default=1,
        ge=0,
        description="How many connections the xDS server has under this node's id. More than one after a "
        "reconnect that the server has not noticed, or when two processes use one id.",
    )
    acknowledged: int | None = Field(
        default=None,
        ge=0,
        description="On this connection the node acknowledged the configuration that events up to this "
        "position caused, but for `exceptions`. Null: not known.",
    )
    exceptions: tuple[NodeException, ...] = Field(default=(), max_length=MOST_EXCEPTIONS)
    listener_refused: str = Field(
        default="", description="Why the node does not listen at the gateway's address; empty when it does."
    )


class RolloutReported(Status):
    """How far a deployment has come as a whole; told when that changes. `name` is the deployment."""

    verb: ClassVar[str] = "rollout"

    state: RolloutState
    nodes: int = Field(default=0, description="How many nodes are to take it.")
    reached: int = Field(default=0, description="How many of them have acknowledged it.")
    reason: str = Field(default="", description="Why it is refused, as the first node said.")
    requested_at: str = ""
    decided_at: str = ""
    published_at: str = ""
    acknowledged_at: str = Field(default="", description="By every node that counts.")
    serving_at: str = ""


class LivenessReported(Status):
    """Whether a gateway's nodes are heard of; told when that changes."""

    verb: ClassVar[str] = "liveness"

    state: LivenessState
    nodes: int = Field(default=0, description="How many nodes count.")
    heard: int = Field(default=0, description="How many of them are connected and were heard of lately.")


STATUSES: tuple[type[Status], ...] = (DeliveryReported, NodeReported, RolloutReported, LivenessReported)
