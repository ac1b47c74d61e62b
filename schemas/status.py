"""Status messages of gateways. Folded to first and last occurrence; never on the event log."""

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
    """The progress of one deployment on one node (`*` for the gateway as a whole)."""

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
    """The observed state of a node (proxy) of a gateway: its connection, and the position it acknowledged.

    Published when the node connects, when it has caught up, with each heartbeat and when it disconnects. A
    new `connection` supersedes all reports about the node on earlier connections.
    """

    verb: ClassVar[str] = "node"

    node: str
    connected: bool
    agent: str = Field(default="", description="The software of the node, such as `envoy 1.40.0`.")
    connection: str = Field(
        default="", max_length=64, description="Identifies the connection; empty from older versions."
    )
    connections: int = Field(
        default=1,
        ge=0,
        description="Connections that the xDS server has under this node's id. More than one after a "
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
    """The progress of a deployment as a whole; published when it changes. `name` is the deployment."""

    verb: ClassVar[str] = "rollout"

    state: RolloutState
    nodes: int = Field(default=0, description="The number of nodes that it is for.")
    reached: int = Field(default=0, description="The number of nodes that acknowledged it.")
    reason: str = Field(default="", description="The reason of the first node that rejected it.")
    requested_at: str = ""
    decided_at: str = ""
    published_at: str = ""
    acknowledged_at: str = Field(default="", description="By every node that counts.")
    serving_at: str = ""


class LivenessReported(Status):
    """Whether a gateway's nodes are alive; published when it changes."""

    verb: ClassVar[str] = "liveness"

    state: LivenessState
    nodes: int = Field(default=0, description="The number of nodes that are expected.")
    heard: int = Field(default=0, description="The number of connected nodes with a recent heartbeat.")


STATUSES: tuple[type[Status], ...] = (DeliveryReported, NodeReported, RolloutReported, LivenessReported)
