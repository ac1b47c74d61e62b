"""From what proxies answer to status messages, probes and durations."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateways.entry import Cause, Entry
from schemas.identity import timestamp
from schemas.status import DeliveryReported, Fact, NodeReported, Status
from xds.order import LISTENER

Report = Callable[[Sequence[Status]], None]
Probe = Callable[[str, Cause], None]
"""Asks for proof that a gateway (its subject) serves a deployment."""


@dataclass(slots=True)
class Delivery:
    """Observes the xDS server; gateway sync hears what was `taken` and what was not.

    `foundation_refused` hears of what all deployments stand on. Everything is held until `begin`.
    """

    report: Report
    probe: Probe
    taken: Callable[[str, Sequence[Entry]], None]
    not_taken: Callable[[str, Sequence[Entry]], None]
    foundation_refused: Callable[[Entry, str], None]
    proxies: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    _held: list[Callable[[], None]] | None = field(default_factory=list[Callable[[], None]])
    _running: dict[tuple[str, str, str], str] = field(default_factory=dict[tuple[str, str, str], str])
    _unproved: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    """Gateways and deployments that were probed in vain."""
    _agents: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])

    def remember(self, gateway: str, causes: Iterable[Cause], reports: Iterable[Mapping[str, Any]]) -> None:
        """Takes up what nodes of `gateway` reported before a restart of ours, so that it is not said again.

        What was acknowledged and not yet proved to serve is probed.
        """
        known: dict[str, dict[str, set[str]]] = {}
        name = gateway.rpartition("/")[2]
        for report in reports:
            if report["gateway"] == name:
                known.setdefault(report["deployment"], {}).setdefault(report["node"], set()).add(
                    report["fact"]
                )
        for cause in causes:
            for node, facts in known.get(cause.deployment, {}).items():
                if "acknowledged" in facts:
                    self._running[gateway, node, cause.api] = cause.deployment
                    if "serving" not in facts:
                        self.probe(gateway, cause)

    def begin(self) -> None:
        """Tells all that was held, and from now on at once."""
        held, self._held = self._held or (), None
        for tell in held:
            tell()

    def _hold(self, tell: Callable[[], None]) -> bool:
        if self._held is not None:
            self._held.append(tell)
        return self._held is not None

    def connected(self, gateway: str, node: str, agent: str) -> None:
        self.proxies[gateway, node] = self.proxies.get((gateway, node), 0) + 1
        self._agents[gateway, node] = agent
        self._node(gateway, node, connected=True, agent=agent)

    def disconnected(self, gateway: str, node: str) -> None:
        left = self.proxies.get((gateway, node), 0) - 1
        if left > 0:
            self.proxies[gateway, node] = left
            return
        self.proxies.pop((gateway, node), None)
        self._agents.pop((gateway, node), None)
        self._node(gateway, node, connected=False)

    def still_connected(self) -> None:
        """Says of every connected node that it still is."""
        for (gateway, node), agent in self._agents.items():
            self._node(gateway, node, connected=True, agent=agent)

    def sent(self, gateway: str, node: str, entries: Sequence[Entry]) -> None:
        """Sending is no fact of a deployment: only what the proxy answers is."""

    def acknowledged(self, gateway: str, node: str, entries: Sequence[Entry]) -> None:
        """Reports each deployment once per node, and has it probed."""
        if self._hold(lambda: self.acknowledged(gateway, node, entries)):
            return
        self.taken(gateway, entries)
        new: list[Status] = []
        for entry in entries:
            for cause in entry.causes:
                before = self._running.get((gateway, node, cause.api), "")
                if before == cause.deployment:
                    if (gateway, before) in self._unproved:
                        self._unproved.discard((gateway, before))
                        self.probe(gateway, cause)
                    continue
                self._unproved.discard((gateway, before))
                self._running[gateway, node, cause.api] = cause.deployment
                new.append(delivery(gateway, cause.deployment, node, "acknowledged", version=entry.version))
                self.probe(gateway, cause)
        self.report(new)

    def refused(self, gateway: str, node: str, entries: Sequence[Entry], reason: str) -> None:
        if self._hold(lambda: self.refused(gateway, node, entries, reason)):
            return
        self.report(
            [
                delivery(gateway, cause.deployment, node, "refused", version=entry.version, reason=reason)
                for entry in entries
                for cause in entry.causes
                if self._running.get((gateway, node, cause.api)) != cause.deployment
            ]
        )
        self.not_taken(gateway, entries)
        for entry in entries:
            if entry.type == LISTENER:
                self.foundation_refused(entry, reason)

    def withdrawn(self, gateway: str, node: str, entries: Sequence[Entry]) -> None:
        """A removed resource no longer serves the deployments it carried last."""
        if self._hold(lambda: self.withdrawn(gateway, node, entries)):
            return
        for entry in entries:
            for cause in entry.causes:
                self._running.pop((gateway, node, cause.api), None)
                self._unproved.discard((gateway, cause.deployment))
        self.report(
            [
                delivery(gateway, cause.deployment, node, "withdrawn")
                for entry in entries
                for cause in entry.causes
            ]
        )

    def serving(self, deployment: str, gateway: str, node: str, at: str) -> None:
        self.report([delivery(gateway, deployment, node, "serving", at=at)])

    def unproved(self, deployment: str, api: str, gateway: str, node: str) -> None:
        """Probed in vain: once more when its configuration is acknowledged again, as after a restart of
        the proxy."""
        if self._running.get((gateway, node, api)) == deployment:
            self._unproved.add((gateway, deployment))

    def _node(self, gateway: str, node: str, *, connected: bool, agent: str = "") -> None:
        if self._hold(lambda: self._node(gateway, node, connected=connected, agent=agent)):
            return
        _, organization, _, name = gateway.split("/")
        self.report(
            [
                NodeReported(
                    organization=organization,
                    name=name,
                    at=timestamp(),
                    node=node,
                    connected=connected,
                    agent=agent,
                )
            ]
        )


def delivery(
    gateway: str,
    deployment: str,
    node: str,
    fact: Fact,
    *,
    version: str = "",
    reason: str = "",
    at: str | None = None,
) -> DeliveryReported:
    """A status of one deployment on one node; `gateway` is its subject."""
    _, organization, _, name = gateway.split("/")
    return DeliveryReported(
        organization=organization,
        name=name,
        at=at or timestamp(),
        deployment=deployment,
        node=node,
        fact=fact,
        version=version,
        reason=reason,
    )
