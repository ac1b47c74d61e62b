"""Entries of the config topic that say how far it is complete and what made it; removals."""

from dataclasses import replace

from gateways.config_resource import ConfigResource

POSITION = "signalbox.io/position"
"""The entry type of the positions of the events and of the status topic up to which the config topic is
complete, and of the events up to which deployments are reported; the first one has the number of entries of
gateways in its version. They are put together with the entries: a power failure that loses one loses the
other, and both are put again."""
TRANSLATION = "signalbox.io/translation"
"""The entry type of the version of a kind's translator that made the entries."""


def position_mark(topic: str, partition: int, position: int, version: str) -> ConfigResource:
    """A position of a topic, or `reports`, of this partition."""
    return ConfigResource("", "", POSITION, f"{topic}/{partition}", version, position, b"-")


def translation_mark(kind: str, partition: int, version: str, position: int) -> ConfigResource:
    """The version of the translator that made the entries of a kind of gateway."""
    return ConfigResource("", "", TRANSLATION, f"{kind}/{partition}", version, position, b"-")


def removal(entry: ConfigResource, position: int) -> ConfigResource:
    """The record that removes an entry from the config topic."""
    return replace(entry, version="", position=position, body=b"", requires=(), deployments=())


def same(entry: ConfigResource, current: ConfigResource | None) -> bool:
    """Whether an entry equals the one in force but for its position."""
    return (
        current is not None
        and entry.version == current.version
        and entry.deployments == current.deployments
        and entry.requires == current.requires
    )
