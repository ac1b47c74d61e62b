"""Rules of projects."""

from commands.decision import Decision, Others, Request
from commands.defined import State, define, delete, evolve
from schemas.aggregates.project import DefineProject, DeleteProject, ProjectDefined, ProjectDeleted

__all__ = ["NAMES_ARE_UNIQUE_FOREVER", "State", "decide", "evolve"]

NAMES_ARE_UNIQUE_FOREVER = False


def decide(request: Request[DefineProject | DeleteProject], state: State | None, others: Others) -> Decision:
    match request.command:
        case DefineProject():
            return define(request, state, ProjectDefined)
        case DeleteProject():
            return delete(request, state, ProjectDeleted)
