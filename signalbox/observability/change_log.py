"""A log line for each rejected command, each deployment that is decided, acknowledged or refused, and each
node that connects, has caught up or disconnects."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from schemas.catalog import DEPLOYMENT
from schemas.envelope import Envelope
from schemas.outcome import Outcome
from schemas.status import DeliveryReported, Fact, NodeReported, Status
from signalbox.observability.attributes import (
    BY,
    LONGEST_REASON,
    REASON,
    RULE,
    Attributes,
    of_command,
    of_delivery,
    of_node,
)

REMEMBERED = 20_000
SOON_SECONDS = 0.05
GATEWAY = "*"
"""The node of status messages about a gateway as a whole."""
LOGGED_FACTS: Mapping[Fact, int] = {"acknowledged": logging.INFO, "refused": logging.WARNING}

logger = logging.getLogger("signalbox.changes")


Later = Callable[[Callable[[], None]], object]
Refused = Callable[[str, str, int], None]
"""Called with organization, gateway and the number of newly refused deployments, 0 at the first report of a
gateway."""


def soon() -> Later:
    """Calls back on the running event loop, after a change in progress has reached its gateway."""
    return partial(asyncio.get_running_loop().call_later, SOON_SECONDS)


class ChangeLog:
    """Is notified of decisions and of status messages of gateways, in the process that publishes them.

    `refused` counts deployments, each one once, for any number of nodes.
    """

    def __init__(
        self, refused: Refused = lambda organization, gateway, number: None, later: Later | None = None
    ) -> None:
        """`later` calls back soon: lines below the level warning are written then, to not delay a change."""
        self._logged: OrderedDict[tuple[str, ...], None] = OrderedDict()
        self._nodes: dict[tuple[str, str, str], NodeReported] = {}
        self._refused = refused
        self._later = later
        self._lines: list[tuple[float, str, tuple[object, ...], Attributes]] = []

    def decided(self, decisions: Sequence[tuple[Envelope, Outcome]]) -> None:
        for command, outcome in decisions:
            if not outcome.accepted:
                about = of_command(command, outcome.subject)
                reason = {RULE: outcome.rule, REASON: outcome.message[:LONGEST_REASON]}
                ids = {**about, **reason, BY: command.authid, "id": outcome.name}
                self._line(logging.WARNING, "command rejected", ids=ids)
            elif outcome.events and f"/{DEPLOYMENT.plural}/" in outcome.subject:
                about = of_command(command, outcome.subject)
                verb = command.type.split(".")[-2]
                self._line(logging.INFO, "deployment decided: %s", verb, ids={**about, BY: command.authid})

    def reported(self, messages: Sequence[Status]) -> None:
        for message in messages:
            if isinstance(message, NodeReported):
                self._node(message)
            elif (
                isinstance(message, DeliveryReported) and message.fact in LOGGED_FACTS and self._new(message)
            ):
                reason = {REASON: message.reason[:LONGEST_REASON]} if message.fact == "refused" else {}
                ids = {**of_delivery(message), **reason}
                self._line(LOGGED_FACTS[message.fact], "deployment %s", message.fact, ids=ids)

    def _node(self, message: NodeReported) -> None:
        """Logs a connection, its first progress, changed exceptions, and its end; no heartbeats."""
        key = (message.organization, message.name, message.node)
        before = self._nodes.get(key)
        ids = of_node(message)
        if not message.connected:
            # Nodes that an earlier process reported are not logged again.
            if self._nodes.pop(key, None) is not None:
                self._line(logging.INFO, "node disconnected", ids=ids)
            return
        self._nodes[key] = message
        if before is None or before.connection != message.connection:
            before = None
            self._refused(message.organization, message.name, 0)
            self._line(logging.INFO, "node connected", ids=ids)
        caught_up = before is not None and before.acknowledged is not None
        exceptions = {(e.deployment, e.state) for e in message.exceptions}
        if message.acknowledged is not None and not (
            caught_up
            and before is not None
            and exceptions == {(e.deployment, e.state) for e in before.exceptions}
        ):
            lacking = ", ".join(f"{e.deployment} {e.state}" for e in message.exceptions) or "none"
            self._line(
                logging.INFO,
                "node caught up to position %d, exceptions: %s",
                message.acknowledged,
                lacking[:LONGEST_REASON],
                ids=ids,
            )

    def flush(self) -> None:
        """Writes the lines that are buffered."""
        lines, self._lines = self._lines, []
        for at, message, args, ids in lines:
            record = logger.makeRecord(
                logger.name, logging.INFO, __file__, 0, message, args, None, extra={"ids": ids}
            )
            record.created = at
            logger.handle(record)

    def _line(self, level: int, message: str, *args: object, ids: Attributes) -> None:
        if self._later is None or level != logging.INFO:
            self.flush()  # lines stay in order
            logger.log(level, message, *args, extra={"ids": ids})
        elif logger.isEnabledFor(level):
            if not self._lines:
                self._later(self.flush)
            self._lines.append((time.time(), message, args, ids))

    def reported_elsewhere(self, message: DeliveryReported) -> None:
        """Marks the messages of another process, which it logged and counted, as known here."""
        if message.fact in LOGGED_FACTS:
            self._remember(_about(message))

    def _new(self, message: DeliveryReported) -> bool:
        """Whether it was not logged yet: acknowledgements of a thousand nodes are one line."""
        about = _about(message)
        if message.fact != "refused":
            return self._remember(about)
        first = self._remember(about)
        if first:
            self._refused(message.organization, message.name, 1)
        # After a node's rejection, gateway sync withdraws the deployment for the gateway as a whole.
        return self._remember((*about, message.node, message.reason)) and (first or message.node != GATEWAY)

    def _remember(self, key: tuple[str, ...]) -> bool:
        """Whether it is new."""
        if key in self._logged:
            return False
        self._logged[key] = None
        if len(self._logged) > REMEMBERED:
            self._logged.popitem(last=False)
        return True


def _about(message: DeliveryReported) -> tuple[str, ...]:
    return (message.organization, message.name, message.deployment, message.fact)
