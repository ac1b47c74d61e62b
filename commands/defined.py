"""Rules of aggregates that are only defined, redefined and deleted."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from commands.decision import Decision, Request, Unchanged, rejected
from schemas.codecs.canonical import digest
from schemas.message import Command, Event

_NO_CONTENT = {"expected_version"}


@dataclass(frozen=True, slots=True)
class State:
    """`content` is the digest of the fields as last defined."""

    content: str
    claims: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    references: Mapping[str, str] = field(default_factory=dict[str, str])


def content_of(message: Command | Event) -> str:
    # As `model_dump`, without its handling of options: every event is compared and folded.
    serializer = message.__pydantic_serializer__
    return digest(serializer.to_python(message, mode="json", exclude=_NO_CONTENT))


def define(request: Request[Command], state: State | None, defined: type[Event]) -> Decision:
    """The event `defined` with the command's fields, unless they are the current ones."""
    command = request.command
    fields = command.__pydantic_serializer__.to_python(command, exclude=_NO_CONTENT)
    event = defined.__pydantic_validator__.validate_python(fields)
    if state is not None and state.content == content_of(event):
        return Unchanged(request.subject)
    return (event,)


def delete(request: Request[Command], state: State | None, deleted: type[Event]) -> Decision:
    if state is None:
        return rejected("not-found", f"There is no {request.subject}.", name="does not exist")
    return (deleted(organization=request.command.organization, name=request.command.name),)


def evolve(state: State | None, event: Event) -> State | None:
    return None if event.effect == "end" else State(content_of(event))
