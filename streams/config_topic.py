"""The config topic: the newest entry of each resource of a gateway, ready to serve. Compacted by key."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Protocol

from gateways.config_resource import ConfigResource
from streams.log import Fenced

Subscriber = Callable[[Sequence[ConfigResource]], None]


class Subscribers:
    """The subscribers of a config topic."""

    def __init__(self) -> None:
        self._subscribers: dict[object, Subscriber] = {}

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """See `ConfigTopic.subscribe`."""
        key = object()
        self._subscribers[key] = subscriber

        def end() -> None:
            self._subscribers.pop(key, None)

        return end

    def notify(self, entries: Sequence[ConfigResource]) -> None:
        loop = asyncio.get_running_loop()
        for subscriber in tuple(self._subscribers.values()):
            # A separate callback, so that an exception in one is reported and does not affect the others.
            loop.call_soon(subscriber, entries)


class Unclaimed(Fenced):
    """The partition is not claimed here, or it is not known whether a put was written: claim, then load."""


class ConfigWriter(Protocol):
    """The part of the config topic that a writer uses."""

    async def put(self, entries: Sequence[ConfigResource]) -> None:
        """Makes these the newest entries of their keys, all or none; an empty body removes.

        A removal stays as an entry without a body, so that replicas receive it. Durable against a crash of
        the process; entries lost in a power failure can be computed again. On Kafka all entries of a call are
        of one partition. Raises LogUnavailable, MessageTooLarge, Fenced.
        """
        ...

    def require_size(self, entry: ConfigResource) -> None:
        """Raises MessageTooLarge, with the size and the limit, for an entry that `put` would reject."""
        ...


class ConfigTopic(ConfigWriter, Protocol):
    """The port. All methods are safe to call from one event loop, concurrently."""

    def partition_of(self, gateway: str) -> int:
        """The partition of a gateway's subject."""
        ...

    async def claim(self, partition: int) -> None:
        """Makes this the only writer of a partition; the writer before is fenced. Claim first, then load.

        Raises LogUnavailable.
        """
        ...

    async def release(self, partition: int) -> None:
        """Releases a claimed partition, after a put in progress."""
        ...

    async def repair(self, partition: int) -> int:
        """Puts entries of a claimed partition again that forged messages overwrote; returns their number.
        Raises LogUnavailable, Fenced."""
        ...

    async def follow(self, partitions: Iterable[int] | None = None) -> None:
        """Passes the puts of other processes to the subscribers, from the end of `load` on, until cancelled.
        `partitions`: default all. Raises LogDamaged."""
        ...

    def load(
        self,
        gateway: str | None = None,
        *,
        removals: bool = False,
        partitions: Iterable[int] | None = None,
        bodies: bool = True,
    ) -> AsyncIterator[list[ConfigResource]]:
        """All entries, of one gateway or of some partitions when given, in chunks; removals only with
        `removals`. Without `bodies` a body may be a placeholder.

        An entry that is put meanwhile may be missing: subscribe first. Raises LogUnavailable, LogDamaged.
        """
        ...

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """`subscriber` is called on the event loop with the entries of each put, in order, once they
        are durable and before `put` returns. Call the result to unsubscribe."""
        ...

    async def close(self) -> None: ...
