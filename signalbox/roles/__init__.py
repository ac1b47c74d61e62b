"""The registry of roles: each has a module in this package.

A role's module has `async def start(runtime: Runtime, group: ServiceGroup) -> None`, which returns when the
role does its work. It may wait for Kafka or the database first, by `runtime.log()` and `runtime.retry`. It
adds to `group` its tasks that run until the process stops (`group.run`) and what is to be closed
(`group.closed_at_stop`); the group stops in the reverse order. A check added by
`runtime.add_readiness_check` makes the process not ready later on. The roles of a process start together and
stop in the reverse of this order.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Role:
    """`group`: it is a Kafka consumer group, which has the name of the role. `listens`: the option with the
    address where it listens; empty when it does not listen."""

    module: str
    summary: str
    group: bool = False
    postgres: bool = False
    listens: str = ""


ROLES: Mapping[str, Role] = {
    "decider": Role("decider", "decides commands: one writer per partition", group=True),
    "gateway-sync": Role("gateway_sync", "compiles the configuration of gateways", group=True),
    "projector": Role("projector", "keeps the read models", group=True, postgres=True),
    "xds": Role("xds", "serves proxies their configuration", listens="xds"),
    "envoy": Role("envoy", "runs a real Envoy and probes it", listens="gateway"),
    "api": Role("api", "answers HTTP", postgres=True, listens="http"),
}
CONSUMER_GROUPS = tuple(name for name, role in ROLES.items() if role.group)
