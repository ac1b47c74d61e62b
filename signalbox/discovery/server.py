"""The xDS server of this process: its resources and the tokens of gateways."""

import asyncio
import hmac
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from gateways.config_resource import ConfigResource, content_version
from schemas.codecs.canonical import sha256_hex
from signalbox.discovery.denials import Denials
from signalbox.observability.log_backoff import LogBackoff
from streams.gateway_sync.marks import POSITION
from streams.gateway_sync.sync import CREDENTIALS
from xds.server.discovery import DiscoveryServer
from xds.server.observer import Connection, Observer
from xds.store import ResourceStore

RETRY_SECONDS = 2.0
LOG_SECONDS = 3600.0
"""A node that does not listen is logged at least this often."""

logger = logging.getLogger("signalbox.gateways")


class Discovery:
    """Serves the resources on the config topic to proxies that present their gateway's token.

    `partition_of` returns the partition of a gateway's events, by its subject.
    """

    def __init__(self, observer: Observer, partition_of: Callable[[str], int]) -> None:
        self._partition_of = partition_of
        self._reached: dict[str, int] = {}
        self._advanced = asyncio.Event()
        self.store = ResourceStore(self._position)
        self._credentials: dict[str, bytes] = {}
        self._digests: Counter[bytes] = Counter()
        self._denials = Denials()
        self.server = DiscoveryServer(
            self.store, self._authenticate, observer, is_known=self._is_known, denied=self._denied
        )
        self._not_listening = LogBackoff(RETRY_SECONDS, most=LOG_SECONDS)
        self._later: set[tuple[str, str, str]] = set()

    def serve(self, entries: Sequence[ConfigResource]) -> None:
        """Serves entries of the config topic, except those whose body does not match their version."""
        sound = [entry for entry in entries if not entry.gateway or _sound(entry)]
        for entry in sound:
            if entry.type == CREDENTIALS:
                self._know(entry)
        self.store.apply([entry for entry in sound if entry.gateway])
        for entry in entries:
            if entry.type == POSITION:
                self._reached[entry.name] = entry.position
                self._advanced.set()
            if entry.type == CREDENTIALS and not entry.body:
                self.server.disconnect(entry.gateway)  # the gateway was removed

    def offer_again_later(self, connection: Connection, listener: ConfigResource, reason: str) -> None:
        """Offers a rejected listener again: the reason may pass, such as a port that another process uses."""
        loop = asyncio.get_running_loop()
        if self._not_listening.is_due((listener.key, connection.node, reason), loop.time()):
            logger.error(
                "node %s of %s does not listen; trying again every %g s: %s",
                connection.node,
                listener.gateway,
                RETRY_SECONDS,
                reason,
            )
        if listener.key in self._later:
            return
        self._later.add(listener.key)
        loop.call_later(RETRY_SECONDS, self._offer_again, listener)

    def _offer_again(self, listener: ConfigResource) -> None:
        self._later.discard(listener.key)
        self.server.offer_again(listener)

    def reached(self, partition: int) -> int:
        """The position up to which the events of a partition are in the configuration."""
        return self._reached.get(f"events/{partition}", 0)

    async def until_reached(self, positions: Mapping[int, int]) -> None:
        """Returns once the events up to these positions, by partition, are in the configuration."""
        while any(self.reached(partition) < position for partition, position in positions.items()):
            self._advanced.clear()
            await self._advanced.wait()

    def _position(self, gateway: str) -> int:
        return self.reached(self._partition_of(gateway))

    def quarantined(self) -> int:
        """The number of resource versions that proxies rejected."""
        return sum(len(self.server.quarantined(gateway)) for gateway in self.store.gateways())

    def _know(self, credentials: ConfigResource) -> None:
        """Stores the digest of a gateway's token."""
        before = self._credentials.pop(credentials.gateway, b"")
        self._digests -= Counter([before])
        if credentials.body:
            self._credentials[credentials.gateway] = credentials.body
            self._digests[credentials.body] += 1

    def _denied(self, reason: str) -> None:
        """Warns of a rejected stream, unless there is no gateway yet: then every stream is rejected."""
        if self._digests:
            self._denials(reason)

    def _is_known(self, token: str) -> bool:
        """Whether it is the token of any gateway."""
        return _digest(token) in self._digests

    def _authenticate(self, gateway: str, token: str) -> bool:
        known = self._credentials.get(gateway)
        return known is not None and hmac.compare_digest(known, _digest(token))


def _digest(token: str) -> bytes:
    return sha256_hex(token.encode("utf-8", "surrogateescape")).encode()


def _sound(entry: ConfigResource) -> bool:
    """Whether the body matches its version; a damaged one is not served."""
    if not entry.body or content_version(entry.body) == entry.version:
        return True
    logger.error(
        "%s of %s is damaged and not served: its version is of another body", entry.name, entry.gateway
    )
    return False
