"""The resources of each gateway, ready to be sent, and the order of their changes.

Used from one event loop only. Changes of a gateway are numbered; a stream keeps the number of the last one it
handled, and finds later ones in time proportional to their number.
"""

from collections.abc import Callable, Sequence

from gateways.config_resource import ConfigResource
from xds.scopes import routes_of
from xds.server.frames import Frames
from xds.store.backlog import LargeChunks
from xds.store.gateway import Gateway
from xds.types import SCOPED_ROUTES, ResourceKey


class ResourceStore:
    """The desired resources of all gateways. To be used from one event loop only.

    `reached(subject)`: the position up to which all events that concern the gateway have been applied.
    """

    def __init__(self, reached: Callable[[str], int] = lambda subject: 0) -> None:
        self._reached = reached
        self._frames = Frames()
        self._large_chunks = LargeChunks()
        self._gateways: dict[str, Gateway] = {}
        self._waiting: dict[tuple[str, ResourceKey], ConfigResource] = {}

    def gateway(self, subject: str) -> Gateway:
        gateway = self._gateways.get(subject)
        if gateway is None:
            gateway = self._gateways[subject] = Gateway(
                subject, self._reached, self._frames, self._large_chunks
            )
        return gateway

    def gateways(self) -> list[str]:
        """The subjects of all gateways in the store."""
        return list(self._gateways)

    def apply(self, entries: Sequence[ConfigResource]) -> None:
        """Applies changes, and wakes the streams of each changed gateway once.

        An entry without a body removes the resource. An unchanged version is not sent again; its deployments
        are updated, and nodes that run it are reported as having acknowledged them. Entries that belong
        together go into one call, in any order.
        """
        changed: dict[str, Gateway] = {}
        for entry in entries:
            gateway = self.gateway(entry.gateway)
            for one in self._complete(gateway, entry):
                if gateway.apply(one):
                    changed[entry.gateway] = gateway
        for gateway in changed.values():
            gateway.wake()

    def _complete(self, gateway: Gateway, entry: ConfigResource) -> Sequence[ConfigResource]:
        """The entries to apply now: `entry`, and the scope that waited for it, if any.

        A scope waits for the route configuration it refers to: without it, the whole listener of an Envoy
        that starts stays warming.
        """
        needed = routes_of(entry)
        if needed is not None:
            stored = gateway.stored(needed)
            if stored is None or stored.current is None:
                self._waiting[entry.gateway, needed] = entry
                return ()
        elif entry.type == SCOPED_ROUTES:
            self._waiting = {at: one for at, one in self._waiting.items() if one.key != entry.key}
        scope = self._waiting.pop((entry.gateway, (entry.type, entry.name)), None) if entry.body else None
        return (entry,) if scope is None else (entry, scope)

    def waiting(self) -> list[ConfigResource]:
        """The scopes that wait for their route configuration."""
        return list(self._waiting.values())

    def entry(self, gateway: str, type: str, name: str) -> ConfigResource | None:
        """The latest version, whether or not proxies accept it."""
        known = self._gateways.get(gateway)
        stored = known.stored((type, name)) if known else None
        return stored.current.entry if stored and stored.current else None

    def entries(self, gateway: str) -> list[ConfigResource]:
        known = self._gateways.get(gateway)
        tables = known.tables.values() if known else ()
        return [
            stored.current.entry
            for table in tables
            for stored in table.stored_resources.values()
            if stored.current
        ]

    def names(self, gateway: str, type: str) -> list[str]:
        known = self._gateways.get(gateway)
        table = known.tables.get(type) if known else None
        return [stored.name for stored in table.stored_resources.values() if stored.current] if table else []

    def quarantined(self, gateway: str) -> list[tuple[ConfigResource, str]]:
        """Versions that all connected proxies rejected, with the redacted reason."""
        known = self._gateways.get(gateway)
        return known.quarantined() if known else []
