"""Rules of organizations."""

from commands.decision import Decision, Others, Request, rejected
from commands.defined import State, define, evolve
from schemas.aggregates.organization import DefineOrganization, OrganizationDefined

__all__ = ["NAMES_ARE_UNIQUE_FOREVER", "State", "decide", "evolve"]

NAMES_ARE_UNIQUE_FOREVER = False


def decide(request: Request[DefineOrganization], state: State | None, others: Others) -> Decision:
    command = request.command
    if command.name != command.organization:
        return rejected(
            "name-mismatch", "An organization belongs to itself.", name="differs from organization"
        )
    return define(request, state, OrganizationDefined)
