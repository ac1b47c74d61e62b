"""What the discovery server tells the rest of the house."""

from collections.abc import Sequence
from typing import Protocol

from gateways.entry import Entry


class Observer(Protocol):
    """Called on the event loop, in the middle of serving: note it down and return.

    `gateway` is its subject, `node` the proxy's id. `entries` carry their `causes`, which map
    back to deployments. `reason` is redacted.
    """

    def connected(self, gateway: str, node: str, agent: str) -> None:
        """The node's first stream opened; `agent` is what it runs, such as `envoy 1.40.0`."""
        ...

    def disconnected(self, gateway: str, node: str) -> None:
        """The node's last stream ended."""
        ...

    def sent(self, gateway: str, node: str, entries: Sequence[Entry]) -> None:
        """Handed to the node; again for those it refused together with another one."""
        ...

    def acknowledged(self, gateway: str, node: str, entries: Sequence[Entry]) -> None:
        """The node runs these: it accepted them, proved it when it reconnected, or ran this very
        version before the entry got other causes."""
        ...

    def refused(self, gateway: str, node: str, entries: Sequence[Entry], reason: str) -> None:
        """The node does not run these and will not be offered these versions again."""
        ...

    def withdrawn(self, gateway: str, node: str, entries: Sequence[Entry]) -> None:
        """The node no longer has these: it acknowledged the removal, or never had them.

        The entries are the removals (their body is empty); where a removal named no causes, they are
        those of the removed entry.
        """
        ...


class Silent:
    """An observer that notes nothing."""

    def connected(self, gateway: str, node: str, agent: str) -> None: ...

    def disconnected(self, gateway: str, node: str) -> None: ...

    def sent(self, gateway: str, node: str, entries: Sequence[Entry]) -> None: ...

    def acknowledged(self, gateway: str, node: str, entries: Sequence[Entry]) -> None: ...

    def refused(self, gateway: str, node: str, entries: Sequence[Entry], reason: str) -> None: ...

    def withdrawn(self, gateway: str, node: str, entries: Sequence[Entry]) -> None: ...
