"""What becomes of proxies' answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateways.entry import Cause, Entry
from schemas.status import DeliveryReported, NodeReported, Status
from signalbox.delivery import Delivery

EAST = "organizations/acme/gateways/east"


def carrying(*deployments: str) -> Entry:
    causes = tuple(Cause(name, f"api-of-{name}", 1, "/x") for name in deployments)
    return Entry(EAST, "envoy", "routes", "x", "v1", 1, b"x", causes=causes)


@dataclass
class Heard:
    facts: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    probed: list[str] = field(default_factory=list[str])

    def delivery(self) -> Delivery:
        made = Delivery(
            lambda messages: self.facts.extend(_fact(message) for message in messages),
            lambda gateway, cause: self.probed.append(cause.deployment),
            lambda gateway, entries: None,
            lambda gateway, entries: None,
            lambda entry, reason: None,
        )
        made.begin()
        return made


def _fact(message: Status) -> tuple[str, str]:
    assert isinstance(message, DeliveryReported)
    return message.deployment, message.fact


def test_what_a_node_acknowledges_again_is_said_and_probed_once():
    heard = Heard()
    delivery = heard.delivery()
    for _ in range(2):
        delivery.acknowledged(EAST, "node-1", [carrying("d1")])
    assert (heard.facts, heard.probed) == ([("d1", "acknowledged")], ["d1"])


def test_what_was_probed_in_vain_is_probed_again_with_the_next_acknowledgement():
    heard = Heard()
    delivery = heard.delivery()
    delivery.acknowledged(EAST, "node-1", [carrying("d1", "d2")])
    delivery.unproved("d1", "api-of-d1", EAST, "node-1")
    delivery.unproved("d0", "api-of-d1", EAST, "node-1")
    for _ in range(2):
        delivery.acknowledged(EAST, "node-1", [carrying("d1", "d2")])
    assert heard.probed == ["d1", "d2", "d1"]
    assert heard.facts == [("d1", "acknowledged"), ("d2", "acknowledged")]


def test_every_connected_node_is_said_to_be_so_again():
    said: list[tuple[str, bool, str]] = []

    def note(messages: Sequence[Status]) -> None:
        said.extend((m.node, m.connected, m.agent) for m in messages if isinstance(m, NodeReported))

    delivery = Heard().delivery()
    delivery.report = note
    delivery.connected(EAST, "node-1", "envoy 1.40.0")
    delivery.connected(EAST, "node-2", "envoy 1.40.0")
    delivery.disconnected(EAST, "node-1")
    said.clear()
    delivery.still_connected()
    assert said == [("node-2", True, "envoy 1.40.0")]
