"""The outcome of a command: one per organization and command id, on the outcomes topic."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pydantic import Field

from schemas.envelope import MessageKey
from schemas.message import Message, Value

UNREADABLE = frozenset({"malformed", "unknown-schema", "unauthorized", "too-large"})
"""Rules of commands that were not decided: a corrected command may use the same id."""
NON_CONSUMING_RULES = UNREADABLE | {"command-id-reused"}
"""Rules of rejections that are not the final outcome of their id: an earlier or later decision is."""


def decides(data: Mapping[str, Any]) -> bool:
    """Whether the outcome with this `data` decided its command, so that the id is used up."""
    return data.get("rule", "") not in NON_CONSUMING_RULES


def pointer(location: Iterable[str | int]) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


class Complaint(Value):
    """One error: its location (a JSON pointer into the command, RFC 6901) and a description."""

    pointer: str
    detail: str


class Outcome(Message):
    """`name` is the command's id."""

    aggregate: ClassVar[str] = "command"
    verb: ClassVar[str] = "decided"

    command: str = Field(description="The command's CloudEvents type.")
    subject: str
    digest: str = Field(
        description="SHA-256 of the command's data: the same id with another body is rejected."
    )
    accepted: bool
    requested_at: str
    decided_at: str
    position: int = Field(description="The last event of the decision, or the end of the event log.")
    events: int = Field(default=0, description="The number of events that the command caused.")
    version: int = Field(default=0, description="The resource's version afterwards.")
    rule: str = Field(default="", description="The rule that rejected it.")
    message: str = ""
    errors: tuple[Complaint, ...] = ()

    @property
    def key(self) -> MessageKey:
        """The key of the command."""
        return (self.organization, self.name)
