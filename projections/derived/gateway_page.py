"""The observed state of one gateway, shown beside its settings: all from one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from projections.deliveries.gateway_facts import GatewayFacts, gateway_facts
from projections.deliveries.queries import nodes_of
from projections.deliveries.rows import heartbeat_deadline
from projections.derived.liveness import present_liveness
from projections.read_transactions import ReadTransaction

_HIDDEN = frozenset({"organization", "gateway", "acknowledged", "reported_to"})


@dataclass(frozen=True, slots=True)
class GatewayPage:
    """`nodes` by name: node, connected, agent, connection, first_seen, last_seen, listener_refused.
    `liveness`: see `projections.derived.liveness.present_liveness`."""

    nodes: Sequence[Mapping[str, Any]]
    liveness: Mapping[str, Any] | None
    facts: GatewayFacts


def gateway_page(
    s: ReadTransaction, organization: str, gateway: str, now: float, *, heartbeats: bool
) -> GatewayPage:
    """`now` is seconds since 1970; `heartbeats`: whether connected nodes send heartbeats."""
    since = heartbeat_deadline(now) if heartbeats else None
    nodes = nodes_of(s, organization, gateway, since)
    return GatewayPage(
        [{name: value for name, value in node.items() if name not in _HIDDEN} for node in nodes],
        present_liveness(
            *(s.connection, s.prefixes.get("liveness"), s.prefix("deliveries")),
            *((organization, gateway), now),
            heartbeats=heartbeats,
        ),
        gateway_facts(s, organization, gateway, since),
    )
