"""The one list of deciders, and what holds for every aggregate alike.

Every command passes: its organization exists; the resource is at the expected version; its own
module decides; what it refers to exists; nothing that others refer to ends.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from commands import api, deployment, environment, gateway, organization, project
from commands.decision import Decision, Others, Rejection, Request, Unchanged, rejected
from commands.decision import State as AnyState
from commands.world import Before, World
from schemas.catalog import BY_NAME, subject_of
from schemas.deployment import DeploymentStarted
from schemas.identity import is_uuid
from schemas.message import Event


class Rules(Protocol):
    """What a module in `commands/` offers. `ONCE`: names of this aggregate never come again."""

    @property
    def ONCE(self) -> bool: ...

    @property
    def State(self) -> Any: ...

    @property
    def decide(self) -> Callable[[Request[Any], Any, Others], Decision]: ...

    @property
    def evolve(self) -> Callable[[Any, Any], AnyState | None]: ...


RULES: Mapping[str, Rules] = MappingProxyType(
    {
        "organization": organization,
        "project": project,
        "environment": environment,
        "gateway": gateway,
        "api": api,
        "deployment": deployment,
    }
)


class Decided(NamedTuple):
    """An accepted decision: its events with their subjects, and how to take its changes back.

    `subject` is what the command was about, or, when nothing changed, what is already as asked.
    """

    subject: str
    version: int
    events: tuple[tuple[str, Event], ...] = ()
    changes: tuple[Before, ...] = ()


def evolve(world: World, event: Event) -> Before:
    """Folds one event into the world.

    Events that were decided by older rules are taken as they are, also where two resources claim the same.
    """
    if isinstance(event, DeploymentStarted):
        event = deployment.completed(event, world)
    rules = RULES[event.aggregate]
    subject = subject_of(event)
    state = rules.evolve(world.state(subject), event)
    # What was named by its command's id never comes again anyway, and there are too many to remember.
    forgotten = state is None and rules.ONCE and is_uuid(event.name)
    version = 0 if forgotten else world.version(subject) + 1
    return world.put(subject, state, version)


def decide(request: Request[Any], world: World) -> Decided | Rejection:
    """Decides one command and, when it is accepted, evolves the world by its events."""
    command = request.command
    subject = request.subject
    aggregate = BY_NAME[command.aggregate]
    if not aggregate.top and world.state(f"organizations/{command.organization}") is None:
        return rejected(
            "no-such-organization",
            f"There is no organization {command.organization!r}.",
            organization="does not exist",
        )
    version = world.version(subject)
    # A name that ended goes on counting, but is as free as one that never was.
    current = version if world.state(subject) is not None else 0
    stale: Rejection | None = None
    if command.expected_version is not None and command.expected_version != current:
        stale = rejected(
            "stale-version",
            f"{subject} is at version {current}, not {command.expected_version}.",
            expected_version=f"the current version is {current}",
        )
    once = RULES[aggregate.name].ONCE
    # Of what ended for good the version is forgotten: that it ended is the answer, whatever was expected.
    if stale is not None and not (once and world.state(subject) is None):
        return stale
    decision = RULES[aggregate.name].decide(request, world.state(subject), world)
    if isinstance(decision, Rejection):
        return decision
    if stale is not None:
        return stale
    if isinstance(decision, Unchanged):
        return Decided(decision.subject, world.version(decision.subject))
    if once and version and world.state(subject) is None:
        return rejected("already-exists", f"There was a {subject} before.", name="was used before")
    changes: list[Before] = []
    try:
        for event in decision:
            changes.append(evolve(world, event))
            world.require_exclusive(changes[-1].subject)
            refusal = _dangling(world, event)
            if refusal is not None:
                world.undo(changes)
                return refusal
    except Exception:
        world.undo(changes)
        raise
    events = tuple((subject_of(event), event) for event in decision)
    return Decided(subject, version + sum(1 for s, _ in events if s == subject), events, tuple(changes))


def _dangling(world: World, event: Event) -> Rejection | None:
    """The rejection for an event that leaves a reference without its target."""
    subject = subject_of(event)
    state = world.state(subject)
    if state is None:
        users = sorted(world.referrers(subject))
        if users:
            named = ", ".join(users[:3]) + (f" and {len(users) - 3} more" if len(users) > 3 else "")
            return rejected("in-use", f"{subject} is needed by {named}.", name=f"needed by {named}")
        return None
    for pointer, target in state.references.items():
        if world.state(target) is None:
            field = pointer.removeprefix("/")
            return rejected("unknown-reference", f"{target} does not exist.", **{field: "does not exist"})
    return None
