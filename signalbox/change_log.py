"""A line of the log for each rejected command, and for each deployment that is decided, taken or refused."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from schemas.catalog import DEPLOYMENT
from schemas.envelope import Envelope
from schemas.outcome import Outcome
from schemas.status import DeliveryReported, Fact, Status
from signalbox.attributes import BY, LONGEST_REASON, REASON, RULE, of_command, of_delivery

REMEMBERED = 20_000
TOLD: Mapping[Fact, int] = {"acknowledged": logging.INFO, "refused": logging.WARNING}

logger = logging.getLogger("signalbox.changes")


class ChangeLog:
    """Hears what was decided and what gateways report, in the process where it happens."""

    def __init__(self) -> None:
        self._told: OrderedDict[tuple[str, ...], None] = OrderedDict()

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
            if not isinstance(message, DeliveryReported) or message.fact not in TOLD:
                continue
            if self._new(message):
                reason = {REASON: message.reason[:LONGEST_REASON]} if message.fact == "refused" else {}
                ids = {**of_delivery(message), **reason}
                logger.log(TOLD[message.fact], "deployment %s", message.fact, extra={"ids": ids})

    def reporting(self, report: Callable[[Sequence[Status]], None]) -> Callable[[Sequence[Status]], None]:
        """`report`, heard on the way."""

        def reported(messages: Sequence[Status]) -> None:
            self.reported(messages)
            report(messages)

        return reported

    def _new(self, message: DeliveryReported) -> bool:
        """Whether it was not told yet: a thousand nodes that take a deployment are one line."""
        node = (message.node, message.reason) if message.fact == "refused" else ()
        key = (message.organization, message.name, message.deployment, message.fact, *node)
        if key in self._told:
            return False
        self._told[key] = None
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        return True
