"""The port to an engine's read models and documents, for the roles `projector` and `api`."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from api.ports import DeadLetterPort, ReadModelRunner
from projections.queries import ReadModels
from projections.store import Store
from signalbox.service_group import ServiceGroup
from streams.documents import DocumentStore
from streams.projection import ProjectionRunner
from streams.projection.listener import ProjectionListener


class Checkpoints(ReadModelRunner, DeadLetterPort, Protocol):
    """The positions of the read models, and their dead letters."""

    async def lag(self) -> Mapping[str, int]: ...


class Database(Protocol):
    """Objects that are opened for a role are closed with its `group`."""

    async def store(self, group: ServiceGroup) -> Store:
        """The database of the read models, once it is reachable."""
        ...

    async def host(
        self, runner: ProjectionRunner, listeners: Sequence[ProjectionListener], group: ServiceGroup
    ) -> None:
        """Feeds the read models of the assigned partitions; returns once they can be queried."""
        ...

    async def read_models(self, group: ServiceGroup) -> tuple[ReadModels, Checkpoints]: ...

    async def documents(self, group: ServiceGroup) -> DocumentStore: ...
