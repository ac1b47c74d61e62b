"""What gateways report. Folded and compacted to first and last occurrence; never in the register."""

from typing import ClassVar, Literal

from pydantic import Field

from schemas.message import Message, Name

Fact = Literal["published", "sent", "acknowledged", "refused", "serving", "withdrawn"]


RolloutState = Literal["pending", "rolling-out", "acknowledged", "serving", "refused", "stopped"]
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


class NodeReported(Status):
    """A node (proxy) of a gateway connected or left."""

    verb: ClassVar[str] = "node"

    node: str
    connected: bool
    agent: str = Field(default="", description="What the node runs, such as `envoy 1.40.0`.")


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
