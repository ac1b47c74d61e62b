"""The registry of roles: each has a module in this package, and runs on both engines.

A role's module has `async def start(runtime: Runtime, group: ServiceGroup) -> None`. It gets its services
from the `Runtime`, which is a port with an implementation per engine, adds to `group` its tasks that run
until the process stops (`group.run`) and the objects to close (`group.closed_at_stop`), and returns when the
role does its work. The last part of a start, when it needs other roles, is added by `group.later`. The group
stops in the reverse order. A check added by `runtime.add_readiness_check` makes the process not ready later
on. The roles of a process start together, those that serve proxies first, and stop in the reverse of this
order.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Role:
    """`group`: it is a Kafka consumer group, which has the name of the role. `listens`: the option with the
    address where it listens; empty when it does not listen. `first`: proxies wait for it, so it starts before
    the modules of the other roles are loaded, which takes longer than its start. `loads`: what else its start
    imports, in the order of use."""

    module: str
    summary: str
    group: bool = False
    postgres: bool = False
    listens: str = ""
    first: bool = False
    loads: tuple[str, ...] = ()

    @property
    def modules(self) -> tuple[str, ...]:
        return (f"{__name__}.{self.module}", *self.loads)


ROLES: Mapping[str, Role] = {
    "decider": Role("decider", "decides commands: one writer per partition", group=True),
    "gateway-sync": Role(
        "gateway_sync", "compiles the configuration of gateways", group=True, loads=("xds.translate",)
    ),
    "projector": Role("projector", "keeps the read models", group=True, postgres=True, loads=("sqlalchemy",)),
    "xds": Role("xds", "serves proxies their configuration", listens="xds", first=True),
    "envoy": Role("envoy", "runs a real Envoy and probes it", listens="gateway", first=True),
    "api": Role(
        "api", "answers HTTP", postgres=True, listens="http", loads=("fastapi", "signalbox.http_api")
    ),
}
CONSUMER_GROUPS = tuple(name for name, role in ROLES.items() if role.group)
