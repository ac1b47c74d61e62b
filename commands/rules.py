"""The rules of all aggregates by name, and the rules common to them.

Checks of every command, in order: its organization exists; the resource is at the expected version; the
aggregate's module decides; references exist; no resource ends that others refer to.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from commands import api, deployment, environment, gateway, organization, project
from commands.decision import Decision, Others, Rejection, Request, Unchanged, rejected
from commands.decision import State as AnyState
from commands.partition_state import Change, PartitionState
from schemas.aggregates.deployment import DeploymentStarted
from schemas.catalog import BY_NAME, subject_of
from schemas.identity import is_uuid
from schemas.message import Event


class Rules(Protocol):
    """The rules of one aggregate: a module of `commands/`."""

    @property
    def NAMES_ARE_UNIQUE_FOREVER(self) -> bool: ...

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
    """An accepted decision: its events with their subjects, and its changes, which can be rolled back.

    `subject`: the subject of the command or, without events, the resource that is already as requested.
    """

    subject: str
    version: int
    events: tuple[tuple[str, Event], ...] = ()
    changes: tuple[Change, ...] = ()


def evolve(partition_state: PartitionState, event: Event) -> Change:
    """Folds one event into the state of its partition.

    Events of older rules are applied unchecked, even if two resources then hold the same claim.
    """
    if isinstance(event, DeploymentStarted):
        event = deployment.completed(event, partition_state)
    rules = RULES[event.aggregate]
    subject = subject_of(event)
    state = rules.evolve(partition_state.state(subject), event)
    # A resource that is named by its command's id is never created again; there are too many to keep their
    # versions.
    forgotten = state is None and rules.NAMES_ARE_UNIQUE_FOREVER and is_uuid(event.name)
    version = 0 if forgotten else partition_state.version(subject) + 1
    return partition_state.put(subject, state, version)


def decide(request: Request[Any], partition_state: PartitionState) -> Decided | Rejection:
    """Decides one command and, when it is accepted, evolves the state of its partition by its events."""
    command = request.command
    subject = request.subject
    aggregate = BY_NAME[command.aggregate]
    if not aggregate.top and partition_state.state(f"organizations/{command.organization}") is None:
        return rejected(
            "no-such-organization",
            f"There is no organization {command.organization!r}.",
            organization="does not exist",
        )
    version = partition_state.version(subject)
    # The version of an ended resource is kept, but a command expects 0, as for an unused name.
    current = version if partition_state.state(subject) is not None else 0
    stale: Rejection | None = None
    if command.expected_version is not None and command.expected_version != current:
        stale = rejected(
            "stale-version",
            f"{subject} is at version {current}, not {command.expected_version}.",
            expected_version=f"the current version is {current}",
        )
    once = RULES[aggregate.name].NAMES_ARE_UNIQUE_FOREVER
    # No version is kept of a resource that ended for good: the aggregate's rejection comes first, whatever
    # version was expected.
    if stale is not None and not (once and partition_state.state(subject) is None):
        return stale
    decision = RULES[aggregate.name].decide(request, partition_state.state(subject), partition_state)
    if isinstance(decision, Rejection):
        return decision
    if stale is not None:
        return stale
    if isinstance(decision, Unchanged):
        return Decided(decision.subject, partition_state.version(decision.subject))
    if once and version and partition_state.state(subject) is None:
        return rejected("already-exists", f"There was a {subject} before.", name="was used before")
    if not aggregate.top and partition_state.state(subject) is None:
        other = partition_state.spelled_otherwise(subject)
        if other is not None:
            return rejected(
                "already-exists",
                f"There is {other}; names of one kind must differ in more than capital letters.",
                name=f"differs from {other.rpartition('/')[2]!r} in capital letters only",
            )
    changes: list[Change] = []
    try:
        for event in decision:
            change = evolve(partition_state, event)
            changes.append(change)
            partition_state.require_exclusive(change.subject)
            refusal = _dangling(partition_state, change.subject)
            if refusal is not None:
                partition_state.rollback(changes)
                return refusal
    except Exception:
        partition_state.rollback(changes)
        raise
    subjects = [change.subject for change in changes]
    events = tuple(zip(subjects, decision, strict=True))
    return Decided(subject, version + subjects.count(subject), events, tuple(changes))


def _dangling(partition_state: PartitionState, subject: str) -> Rejection | None:
    """The rejection for an event about `subject` that leaves a reference without its target."""
    state = partition_state.state(subject)
    if state is None:
        users = sorted(partition_state.referrers(subject))
        if users:
            named = ", ".join(users[:3]) + (f" and {len(users) - 3} more" if len(users) > 3 else "")
            return rejected("in-use", f"{subject} is needed by {named}.", name=f"needed by {named}")
        return None
    for pointer, target in state.references.items():
        if partition_state.state(target) is None:
            field = pointer.removeprefix("/")
            return rejected("unknown-reference", f"{target} does not exist.", **{field: "does not exist"})
    return None
