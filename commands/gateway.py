"""Rules of gateways."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from commands.decision import Decision, Others, Request, Unchanged, rejected
from schemas.aggregates.gateway import (
    ChangeGateway,
    GatewayChanged,
    GatewayFields,
    GatewayRegistered,
    GatewayRemoved,
    RegisterGateway,
    RemoveGateway,
)
from schemas.codecs.canonical import digest

NAMES_ARE_UNIQUE_FOREVER = False


@dataclass(frozen=True, slots=True)
class State:
    organization: str
    kind: str
    environment: str
    content: str

    @property
    def claims(self) -> tuple[str, ...]:
        return ()

    @property
    def shared(self) -> tuple[str, ...]:
        return ()

    @property
    def references(self) -> Mapping[str, str]:
        return {"/environment": f"organizations/{self.organization}/environments/{self.environment}"}


def _content(fields: GatewayFields) -> str:
    return digest({name: getattr(fields, name) for name in GatewayFields.model_fields})


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def decide(
    request: Request[RegisterGateway | ChangeGateway | RemoveGateway], state: State | None, others: Others
) -> Decision:
    command = request.command
    if isinstance(command, GatewayFields) and not _is_address(command.address):
        return rejected(
            "invalid-address",
            f"A gateway listens at an IP address, such as 127.0.0.1 or ::; {command.address!r} is not one.",
            address="is not an IP address",
        )
    if isinstance(command, RegisterGateway):
        if state is not None:
            return rejected(
                "already-exists", f"There is a gateway {command.name!r} already.", name="already exists"
            )
        return (GatewayRegistered.model_validate(command.model_dump(exclude={"expected_version"})),)
    if state is None:
        return rejected("not-found", f"There is no {request.subject}.", name="does not exist")
    if isinstance(command, RemoveGateway):
        return (GatewayRemoved(organization=command.organization, name=command.name),)
    if command.kind != state.kind:
        return rejected("kind-is-fixed", f"The gateway is of kind {state.kind}.", kind="cannot be changed")
    if _content(command) == state.content:
        return Unchanged(request.subject)
    return (GatewayChanged.model_validate(command.model_dump(exclude={"expected_version"})),)


def evolve(state: State | None, event: GatewayRegistered | GatewayChanged | GatewayRemoved) -> State | None:
    if isinstance(event, GatewayRemoved):
        return None
    return State(event.organization, event.kind, event.environment, _content(event))
