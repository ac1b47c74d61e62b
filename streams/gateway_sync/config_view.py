"""The entries in force on a partition of the config topic, without bodies, for its writer to compare with."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gateways.config_resource import ConfigResource
from streams.config_topic import ConfigWriter
from streams.gateway_sync.event_history import Recent

BODILESS = b"-"
LATELY = 4096


@dataclass(slots=True)
class ConfigView:
    """Puts to `topic`, and keeps the entries in force. With `bodies` they are kept as they are: where
    others in the process keep them, too."""

    topic: ConfigWriter
    bodies: bool = False
    _entries: dict[tuple[str, str, str], ConfigResource] = field(
        default_factory=dict[tuple[str, str, str], ConfigResource]
    )
    _carriers: dict[tuple[str, str], ConfigResource] = field(
        default_factory=dict[tuple[str, str], ConfigResource]
    )
    _superseded: Recent[ConfigResource] = field(default_factory=lambda: Recent[ConfigResource](LATELY))

    async def put(self, entries: Sequence[ConfigResource]) -> None:
        """Puts entries and applies them. Raises the errors of the topic's `put`."""
        await self.topic.put(entries)
        self.apply(entries)

    def apply(self, entries: Iterable[ConfigResource]) -> None:
        """Applies entries that are on the topic."""
        for entry in entries:
            before = self._entries.pop(entry.key, None)
            if before is not None and before.deployments and before.gateway:
                self._carriers.pop((before.gateway, before.version), None)
                self._superseded.keep(f"{before.gateway} {before.version}", _bodiless(before))
            if entry.body:
                self._entries[entry.key] = kept = entry if self.bodies else _bodiless(entry)
                if kept.deployments and kept.gateway:
                    self._carriers[kept.gateway, kept.version] = kept

    def require_size(self, entry: ConfigResource) -> None:
        """Raises MessageTooLarge."""
        self.topic.require_size(entry)

    def entry(self, gateway: str, type: str, name: str) -> ConfigResource | None:
        """The entry in force."""
        return self._entries.get((gateway, type, name))

    def carrying(self, gateway: str, version: str) -> ConfigResource | None:
        """The entry of this version that carries deployments: in force, or recently superseded."""
        return self._carriers.get((gateway, version)) or self._superseded.get(f"{gateway} {version}")


def _bodiless(entry: ConfigResource) -> ConfigResource:
    return entry if entry.body == BODILESS else entry.with_body(BODILESS)
