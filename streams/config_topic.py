"""The config topic: for each gateway and resource the newest entry, ready to serve. Compacted by key."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from gateways.config_resource import ConfigResource

Subscriber = Callable[[Sequence[ConfigResource]], None]


class ConfigWriter(Protocol):
    """What a writer needs of the config topic."""

    async def put(self, entries: Sequence[ConfigResource]) -> None:
        """Makes these the newest entries of their keys, all or none; an empty body removes.

        A removal stays as an entry without a body, so that replicas learn of it. Durable against the
        end of the process; what a power failure takes can be computed again. On Kafka they are of one
        partition. Raises LogUnavailable, MessageTooLarge, Fenced.
        """
        ...

    def require_size(self, entry: ConfigResource) -> None:
        """Raises MessageTooLarge, with the size and the limit, for an entry that `put` would not take."""
        ...


class ConfigTopic(ConfigWriter, Protocol):
    """The port. All methods are safe to call from one event loop, concurrently."""

    def load(
        self, gateway: str | None = None, *, removals: bool = False
    ) -> AsyncIterator[list[ConfigResource]]:
        """All entries, of one gateway when given, in chunks; removals only when asked for.

        An entry that is put meanwhile may be missing: subscribe first. Raises LogUnavailable, LogDamaged.
        """
        ...

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """`subscriber` is called on the event loop with the entries of each put, in order, once they
        are durable and before `put` returns. Call what is returned to end it."""
        ...

    async def prune(self, before: int) -> int:
        """Forgets removals caused by events before position `before`; how many."""
        ...

    async def close(self) -> None: ...
