"""Rules of environments."""

from commands.decision import Decision, Others, Request
from commands.defined import State, define, delete, evolve
from schemas.aggregates.environment import (
    DefineEnvironment,
    DeleteEnvironment,
    EnvironmentDefined,
    EnvironmentDeleted,
)

__all__ = ["NAMES_ARE_UNIQUE_FOREVER", "State", "decide", "evolve"]

NAMES_ARE_UNIQUE_FOREVER = False


def decide(
    request: Request[DefineEnvironment | DeleteEnvironment], state: State | None, others: Others
) -> Decision:
    match request.command:
        case DefineEnvironment():
            return define(request, state, EnvironmentDefined)
        case DeleteEnvironment():
            return delete(request, state, EnvironmentDeleted)
