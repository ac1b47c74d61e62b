"""A rejected version that waits for the answers of the other connected proxies."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from xds.server.observer import Connection
from xds.types import ResourceKey


class Viewer(Protocol):
    """The part of a stream that the store uses."""

    @property
    def connection(self) -> Connection: ...

    def cursor(self, type: str) -> int:
        """The last change of a type that the stream has handled."""
        ...

    def may_take(self, key: ResourceKey, version: str) -> bool | None:
        """Whether the proxy did not reject this version of a resource; None: the stream does not subscribe
        to it."""
        ...


@dataclass(slots=True, eq=False)
class PendingRejection:
    """`reason`: that of the first proxy that rejected a version which no proxy is known to run. `awaited`: a
    stream whose proxy may still accept it."""

    reason: str
    awaited: Callable[[], None] | None = None
