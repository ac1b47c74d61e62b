"""Reports of gateway sync about deployments, for a gateway as a whole. Pure but for the time."""

from collections.abc import Callable, Iterable

from gateways.config_resource import ConfigResource, DeploymentRef
from schemas.identity import timestamp
from schemas.status import DeliveryReported, Fact

LONGEST_REASON = 4_000
"""Maximum characters of a reason: a status message must fit into the log."""


def published(
    changed: Iterable[ConfigResource], current: Callable[[str, str, str], ConfigResource | None]
) -> list[DeliveryReported]:
    """One report per deployment that is new in these entries; `current` is what is in force before them."""
    new: dict[tuple[str, DeploymentRef], ConfigResource] = {}
    known: set[tuple[str, DeploymentRef]] = set()
    for entry in changed:
        before = current(entry.gateway, entry.type, entry.name)
        known.update((entry.gateway, ref) for ref in (before.deployments if before else ()))
        new.update(((entry.gateway, ref), entry) for ref in entry.deployments)
    return [
        published_one(gateway, ref, entry.position, entry.version)
        for (gateway, ref), entry in new.items()
        if (gateway, ref) not in known
    ]


def published_one(gateway: str, ref: DeploymentRef, position: int, version: str = "") -> DeliveryReported:
    """The report of a deployment that is on the config topic for a gateway (its subject), by an event."""
    return _report(gateway, ref, "published", position, version=version)


def rejected(gateway: str, ref: DeploymentRef, reason: str, position: int) -> DeliveryReported:
    """The report of a deployment that is rejected for a gateway (its subject); `position` is the event's."""
    shown = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]} …"
    return _report(gateway, ref, "refused", position, reason=shown)


def _report(gateway: str, ref: DeploymentRef, fact: Fact, position: int, **more: str) -> DeliveryReported:
    _, organization, _, name = gateway.split("/")
    return DeliveryReported.of(
        {
            "organization": organization,
            "name": name,
            "at": timestamp(),
            "deployment": ref.deployment,
            "fact": fact,
            "api": ref.api,
            "revision": ref.revision,
            "position": position,
            **more,
        }
    )
