"""What is in force on a partition of the config topic, without the bodies: what its writer compares with."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from gateways.entry import Entry
from streams.config_topic import Putting
from streams.register_reading import Recent

BODILESS = b"-"
LATELY = 4096


@dataclass(slots=True)
class ConfigView:
    """Puts to `topic`, and knows what it has put."""

    topic: Putting
    _entries: dict[tuple[str, str, str], Entry] = field(default_factory=dict[tuple[str, str, str], Entry])
    _carriers: dict[tuple[str, str], Entry] = field(default_factory=dict[tuple[str, str], Entry])
    _superseded: Recent[Entry] = field(default_factory=lambda: Recent[Entry](LATELY))

    async def put(self, entries: Sequence[Entry]) -> None:
        """Raises what the topic's `put` raises."""
        await self.topic.put(entries)
        self.apply(entries)

    def apply(self, entries: Iterable[Entry]) -> None:
        """Takes over what is on the topic."""
        for entry in entries:
            before = self._entries.pop(entry.key, None)
            if before is not None and before.causes and before.gateway:
                self._carriers.pop((before.gateway, before.version), None)
                self._superseded.keep(f"{before.gateway} {before.version}", before)
            if entry.body:
                self._entries[entry.key] = kept = replace(entry, body=BODILESS)
                if kept.causes and kept.gateway:
                    self._carriers[kept.gateway, kept.version] = kept

    def require_size(self, entry: Entry) -> None:
        """Raises MessageTooLarge."""
        self.topic.require_size(entry)

    def entry(self, gateway: str, type: str, name: str) -> Entry | None:
        """The entry in force."""
        return self._entries.get((gateway, type, name))

    def carrying(self, gateway: str, version: str) -> Entry | None:
        """The entry of this version that carries deployments: in force, or superseded lately."""
        return self._carriers.get((gateway, version)) or self._superseded.get(f"{gateway} {version}")
