"""What gateways report. Folded and compacted to first and last occurrence; never in the register."""

from typing import ClassVar, Literal

from pydantic import Field

from schemas.message import Message, Name

Fact = Literal["published", "sent", "acknowledged", "refused", "serving", "withdrawn"]


class Status(Message):
    """`io.signalbox.status.<verb>.v1`; `name` is the gateway."""

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


STATUSES: tuple[type[Status], ...] = (DeliveryReported, NodeReported)
