"""A line of the log for each rejected command, for each deployment that is decided, taken or refused, and
for each node that connects, has caught up or leaves."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from schemas.catalog import DEPLOYMENT
from schemas.envelope import Envelope
from schemas.outcome import Outcome
from schemas.status import DeliveryReported, Fact, NodeReported, Status
from signalbox.attributes import BY, LONGEST_REASON, REASON, RULE, of_command, of_delivery, of_node

REMEMBERED = 20_000
GATEWAY = "*"
"""The node of what is reported of a gateway as a whole."""
TOLD: Mapping[Fact, int] = {"acknowledged": logging.INFO, "refused": logging.WARNING}

logger = logging.getLogger("signalbox.changes")


Refused = Callable[[str, str, int], None]
"""Called with organization, gateway and how many more of its deployments were refused, 0 for a gateway that
is first reported."""


class ChangeLog:
    """Hears what was decided and what gateways report, in the process where it happens.

    `refused` counts deployments, each once however many nodes refuse it.
    """

    def __init__(self, refused: Refused = lambda organization, gateway, number: None) -> None:
        self._told: OrderedDict[tuple[str, ...], None] = OrderedDict()
        self._nodes: dict[tuple[str, str, str], NodeReported] = {}
        self._refused = refused

    def decided(self, decisions: Sequence[tuple[Envelope, Outcome]]) -> None:
        for command, outcome in decisions:
            about = of_command(command, outcome.subject)
            if not outcome.accepted:
                reason = {RULE: outcome.rule, REASON: outcome.message[:LONGEST_REASON]}
                ids = {**about, **reason, BY: command.authid, "id": outcome.name}
                logger.warning("command rejected", extra={"ids": ids})
            elif outcome.events and f"/{DEPLOYMENT.plural}/" in outcome.subject:
                verb = command.type.split(".")[-2]
                logger.info("deployment decided: %s", verb, extra={"ids": {**about, BY: command.authid}})

    def reported(self, messages: Sequence[Status]) -> None:
        for message in messages:
            if isinstance(message, NodeReported):
                self._node(message)
            elif isinstance(message, DeliveryReported) and message.fact in TOLD and self._new(message):
                reason = {REASON: message.reason[:LONGEST_REASON]} if message.fact == "refused" else {}
                ids = {**of_delivery(message), **reason}
                logger.log(TOLD[message.fact], "deployment %s", message.fact, extra={"ids": ids})

    def _node(self, message: NodeReported) -> None:
        """Logs a connection, its first progress, changed exceptions, and its end; no heartbeats."""
        key = (message.organization, message.name, message.node)
        before = self._nodes.get(key)
        ids = of_node(message)
        if not message.connected:
            # What is reported of nodes that an earlier process knew is no news.
            if self._nodes.pop(key, None) is not None:
                logger.info("node disconnected", extra={"ids": ids})
            return
        self._nodes[key] = message
        if before is None or before.connection != message.connection:
            before = None
            self._refused(message.organization, message.name, 0)
            logger.info("node connected", extra={"ids": ids})
        caught_up = before is not None and before.acknowledged is not None
        exceptions = {(e.deployment, e.state) for e in message.exceptions}
        if message.acknowledged is not None and not (
            caught_up
            and before is not None
            and exceptions == {(e.deployment, e.state) for e in before.exceptions}
        ):
            lacking = ", ".join(f"{e.deployment} {e.state}" for e in message.exceptions) or "none"
            logger.info(
                "node caught up to position %d, exceptions: %s",
                message.acknowledged,
                lacking[:LONGEST_REASON],
                extra={"ids": ids},
            )

    def reporting(self, report: Callable[[Sequence[Status]], None]) -> Callable[[Sequence[Status]], None]:
        """`report`, heard on the way."""

        def reported(messages: Sequence[Status]) -> None:
            self.reported(messages)
            report(messages)

        return reported

    def _new(self, message: DeliveryReported) -> bool:
        """Whether it was not told yet: a thousand nodes that take a deployment are one line."""
        about = (message.organization, message.name, message.deployment, message.fact)
        if message.fact != "refused":
            return self._remember(about)
        first = self._remember(about)
        if first:
            self._refused(message.organization, message.name, 1)
        # Gateway sync takes a deployment back for the gateway as a whole after a node refused it.
        return self._remember((*about, message.node, message.reason)) and (first or message.node != GATEWAY)

    def _remember(self, key: tuple[str, ...]) -> bool:
        """Whether it is new."""
        if key in self._told:
            return False
        self._told[key] = None
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        return True
