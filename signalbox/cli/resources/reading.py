"""Resources read from the server."""

from http import HTTPStatus
from typing import TYPE_CHECKING

from signalbox.cli.failure import USAGE, Failure
from signalbox.cli.http.client import Client, Refused, path
from signalbox.cli.http.documents import Document

if TYPE_CHECKING:
    from schemas.aggregate import Aggregate


def collection(client: Client, aggregate: "Aggregate") -> str:
    return path("organizations") if aggregate.top else client.organization(aggregate.plural)


def one(client: Client, aggregate: "Aggregate", name: str, as_of: str | None = None) -> Document:
    """A resource. Raises Refused, with a hint when it does not exist."""
    try:
        return client.get(collection(client, aggregate) + path(name), {"as_of": as_of}).body
    except Refused as refused:
        if refused.status == HTTPStatus.NOT_FOUND and not refused.hint:
            refused.hint = f"`signalbox get {aggregate.plural}` lists those there are"
        raise


def target(client: Client, name: str, *, then: str = "") -> dict[str, str]:
    """The gateway of this name, or else the environment, as a field of commands.

    Raises Failure when there is neither; `then` is added to its message.
    """
    for plural, field in (("gateways", "gateway"), ("environments", "environment")):
        try:
            client.get(client.organization(plural) + path(name))
            return {field: name}
        except Refused as refused:
            if refused.status != HTTPStatus.NOT_FOUND:
                raise
    raise Failure(
        f"there is no gateway and no environment {name!r}{then}",
        "`signalbox get gateways` and `signalbox get environments` list those there are",
        USAGE,
    )


def require_organization(client: Client) -> None:
    """Raises Failure when the organization of the connection does not exist."""
    name = client.connection.organization
    try:
        client.get(path("organizations", name))
    except Refused as refused:
        if refused.status != HTTPStatus.NOT_FOUND:
            raise
        raise Failure(
            f"there is no organization {name!r}",
            "`signalbox get organizations` lists those there are; choose one with --org or SIGNALBOX_ORG, "
            f"or create it: signalbox create organization {name}",
        ) from refused
