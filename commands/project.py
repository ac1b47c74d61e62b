"""Rules of projects."""

from commands.decision import Decision, Others, Request
from commands.defined import State, define, delete, evolve
from schemas.project import DefineProject, DeleteProject, ProjectDefined, ProjectDeleted

__all__ = ["ONCE", "State", "decide", "evolve"]

ONCE = False


def decide(request: Request[DefineProject | DeleteProject], state: State | None, others: Others) -> Decision:
    match request.command:
        case DefineProject():
            return define(request, state, ProjectDefined)
        case DeleteProject():
            return delete(request, state, ProjectDeleted)
