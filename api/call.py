"""A request together with the services."""

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from api.authentication import SCOPE_KEY, Principal
from api.ports import Services

Schema = dict[str, Any]


class Call:
    """An authorized request."""

    __slots__ = ("request", "services")

    def __init__(self, request: Request, services: Services) -> None:
        self.request = request
        self.services = services

    @property
    def principal(self) -> Principal:
        return self.request.scope[SCOPE_KEY]

    def path(self, name: str) -> str:
        return self.request.path_params[name]

    def header(self, name: str) -> str | None:
        return self.request.headers.get(name)

    @property
    def organization(self) -> str:
        return self.request.path_params["org"]

    @property
    def partition(self) -> int:
        return self.services.log.partition_of(self.organization)

    @property
    def partitions(self) -> Sequence[int]:
        """That of the organization; outside of one, those of all organizations that the caller may access."""
        if "org" in self.request.path_params:
            return (self.partition,)
        log, own = self.services.log, self.principal.organizations
        return range(log.partitions) if own is None else sorted({log.partition_of(name) for name in own})
