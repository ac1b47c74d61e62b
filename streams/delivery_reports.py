"""What gateway sync reports of deployments, of a gateway as a whole. Pure but for the time."""

from collections.abc import Callable, Iterable

from gateways.entry import Cause, Entry
from schemas.identity import timestamp
from schemas.status import DeliveryReported

LONGEST_REASON = 4_000
"""Characters: a status message has to fit into the log, whatever an API asks for."""


def published(
    changed: Iterable[Entry], current: Callable[[str, str, str], Entry | None]
) -> list[DeliveryReported]:
    """One report per deployment that is new in an entry; `current` is what is in force before it."""
    new: dict[tuple[str, Cause], Entry] = {}
    for entry in changed:
        before = current(entry.gateway, entry.type, entry.name)
        known = frozenset(before.causes) if before else frozenset[Cause]()
        for cause in entry.causes:
            if cause not in known:
                new[entry.gateway, cause] = entry
    return [
        published_one(gateway, cause, entry.position, entry.version)
        for (gateway, cause), entry in new.items()
    ]


def published_one(gateway: str, cause: Cause, position: int, version: str = "") -> DeliveryReported:
    """A deployment that is on the config topic for a gateway (its subject) because of an event."""
    return DeliveryReported(
        organization=gateway.split("/")[1],
        name=gateway.split("/")[3],
        at=timestamp(),
        deployment=cause.deployment,
        fact="published",
        version=version,
        api=cause.api,
        revision=cause.revision,
        position=position,
    )


def refused(gateway: str, cause: Cause, reason: str, position: int) -> DeliveryReported:
    """A deployment that a gateway (its subject) is not to serve; `position` is the event's."""
    return DeliveryReported(
        organization=gateway.split("/")[1],
        name=gateway.split("/")[3],
        at=timestamp(),
        deployment=cause.deployment,
        fact="refused",
        reason=reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]} …",
        api=cause.api,
        revision=cause.revision,
        position=position,
    )
