"""The observed state of gateways, computed in the plainest way: everything is kept, everything is looked
through again. What the read model of deliveries must agree with."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from projections.deliveries.rows import ROLLED_BACK
from schemas.message import Message
from schemas.status import DeliveryReported, NodeReported


@dataclass
class Proxy:
    connected: bool
    connection: str
    acknowledged: int = 0
    statements: dict[str, str] = field(default_factory=dict[str, str])
    """By deployment, what it answered itself and is not covered by `acknowledged`."""
    at: dict[str, int] = field(default_factory=dict[str, int])
    """By deployment, where that was published when it answered."""

    def say(self, deployment: str, state: str, position: int) -> None:
        self.statements[deployment] = state
        self.at[deployment] = position


@dataclass
class Known:
    api: str
    position: int = 0
    published: bool = False
    taken: bool = False
    refused: bool = False
    rejected: bool = False


Interval = tuple[str, int, int | None]
"""Deployment, from and to which position of the status topic it was live."""


@dataclass
class NaiveGateway:
    """One gateway. `live` are the intervals of each API."""

    proxies: dict[str, Proxy] = field(default_factory=dict[str, Proxy])
    known: dict[str, Known] = field(default_factory=dict[str, Known])
    configured: dict[str, str] = field(default_factory=dict[str, str])
    waiting: set[str] = field(default_factory=set[str])
    live: dict[str, list[Interval]] = field(default_factory=dict[str, list[Interval]])
    live_at: dict[str, int] = field(default_factory=dict[str, int])
    """Of which position what is live was acknowledged."""

    def has(self, proxy: Proxy, deployment: str) -> bool:
        if deployment in proxy.statements:
            return proxy.statements[deployment] == "acknowledged"
        return proxy.acknowledged > 0 and proxy.acknowledged >= self.known[deployment].position

    def state(self, deployment: str) -> str:
        """What its refusals make of a deployment that is in force; empty when they do not matter."""
        known, there = self.known[deployment], [p for p in self.proxies.values() if p.connected]
        refusing = [p for p in there if p.statements.get(deployment) == "refused"]
        configured = self.configured.get(known.api)
        back = known.rejected and configured != deployment
        if back or configured not in (None, deployment) or not (known.published or known.taken):
            return "refused" if refusing or known.refused else ""
        if not there:
            return "refused" if known.rejected else ""
        if refusing and any(self.has(p, deployment) for p in there):
            return "partly-refused"
        return "refused" if len(refusing) == len(there) else ""

    def live_now(self, api: str) -> str:
        intervals = self.live.get(api, [])
        return intervals[-1][0] if intervals and intervals[-1][2] is None else ""

    def take(self, position: int, message: Message) -> None:
        if isinstance(message, DeliveryReported):
            self._delivery(position, message)
        elif isinstance(message, NodeReported):
            self._node(position, message)

    def _delivery(self, position: int, m: DeliveryReported) -> None:
        proxy = self.proxies.get(m.node)
        if proxy is not None and m.connection and proxy.connection and m.connection != proxy.connection:
            return
        if proxy is not None and not proxy.connected:
            proxy = None
        known = self.known.setdefault(m.deployment, Known(m.api))
        again = not m.version and self.configured.get(m.api) == m.deployment
        repeated = known.published and 0 < m.position <= known.position and (not known.rejected or again)
        known.position = max(known.position, m.position)
        match m.fact:
            case "published" if not repeated:
                known.published = True
                known.taken = known.rejected = False
                self.configured[m.api] = m.deployment
                self.waiting.add(m.api)
            case "acknowledged":
                if proxy is not None:
                    for other, statements in list(proxy.statements.items()):
                        about = self.known[other]
                        older = proxy.at[other] <= known.position
                        if (
                            other != m.deployment
                            and about.api == m.api
                            and (statements == "acknowledged" or older)
                        ):
                            del proxy.statements[other]
                    proxy.say(m.deployment, "acknowledged", known.position)
                self._taken(position, m.deployment)
            case "refused":
                self._refused(m.deployment, proxy, whole=m.node == "*")
            case "withdrawn":
                if proxy is not None:
                    proxy.say(m.deployment, "withdrawn", known.position)
                self._withdrawn(position, m.deployment, certainly=m.node == "*")
            case _:
                pass

    def _refused(self, deployment: str, proxy: Proxy | None, *, whole: bool) -> None:
        known = self.known[deployment]
        known.refused = True
        known.rejected = known.rejected or whole or not known.taken
        if whole and self.configured.get(known.api) == deployment:
            self.waiting.discard(known.api)
            self.configured[known.api] = ROLLED_BACK
        if proxy is not None:
            proxy.say(deployment, "refused", known.position)

    def _taken(self, position: int, deployment: str) -> None:
        known = self.known[deployment]
        if known.rejected and self.configured.get(known.api) == ROLLED_BACK:
            return
        known.taken = True
        known.rejected = known.rejected and self.configured.get(known.api) not in (None, deployment)
        configured = self.configured.get(known.api) == deployment
        if configured:
            self.waiting.discard(known.api)
        now = self.live_now(known.api)
        newer = not now or known.position > self.live_at[known.api]
        if now != deployment and (configured or newer):
            self._close(position, known.api)
            self.live.setdefault(known.api, []).append((deployment, position, None))
        if self.live_now(known.api) == deployment:
            self.live_at[known.api] = known.position

    def _close(self, position: int, api: str) -> None:
        if self.live_now(api):
            deployment, since, _ = self.live[api][-1]
            self.live[api][-1] = (deployment, since, position)

    def _withdrawn(self, position: int, deployment: str, *, certainly: bool = False) -> None:
        there = [p for p in self.proxies.values() if p.connected]
        if not certainly and any(self.has(p, deployment) for p in there):
            return
        for proxy in self.proxies.values():
            if proxy.statements.get(deployment) == "withdrawn":
                del proxy.statements[deployment]
        api = self.known[deployment].api
        if self.configured.get(api) == deployment:
            del self.configured[api]
            self.waiting.discard(api)
        if self.live_now(api) == deployment:
            self._close(position, api)

    def _node(self, position: int, m: NodeReported) -> None:
        before = self.proxies.get(m.node)
        newer = before is not None and m.connection and before.connection > m.connection
        if before is not None and before.connected and not m.connected and newer:
            return
        leaving = [d for d in self.known for p in self.proxies.values() if p.statements.get(d) == "withdrawn"]
        new = before is None or not before.connected or (m.connection and m.connection != before.connection)
        if new or not m.connected or before is None:
            earlier = "" if before is None or new else before.connection
            proxy = Proxy(m.connected, m.connection or earlier)
        else:
            proxy = before
        self.proxies[m.node] = proxy
        if m.connected and m.acknowledged is not None:
            self._caught_up(position, proxy, m)
        for deployment in sorted(set(leaving)):
            self._withdrawn(position, deployment)

    def _caught_up(self, position: int, proxy: Proxy, m: NodeReported) -> None:
        assert m.acknowledged is not None
        proxy.acknowledged = m.acknowledged
        exceptions = {e.deployment: e.state for e in m.exceptions}
        before = dict(proxy.statements)
        for deployment in list(proxy.statements):
            if proxy.at[deployment] <= m.acknowledged:
                del proxy.statements[deployment]
        for deployment, state in exceptions.items():
            if before.get(deployment) == state:
                proxy.statements[deployment] = state
                continue
            if state == "refused":
                self._refused(deployment, proxy, whole=False)
            proxy.say(deployment, state, self.known[deployment].position)
        for api in sorted(self.waiting):
            deployment = self.configured[api]
            known = self.known[deployment]
            covered = m.acknowledged > 0 and known.position <= m.acknowledged
            if covered and deployment not in exceptions:
                self._taken(position, deployment)


def replay(history: Iterable[tuple[int, Message]]) -> NaiveGateway:
    gateway = NaiveGateway()
    for position, message in history:
        gateway.take(position, message)
    return gateway
