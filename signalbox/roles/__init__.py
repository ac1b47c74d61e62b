"""What a process can be: each module here is a role.

A role's module has `async def start(runtime: Runtime, group: ServiceGroup) -> None`, which returns when the
role does its work (it may wait for Kafka or the database first, by `runtime.log()` and
`runtime.retry`) and puts on `group` how it ends: a part that runs for ever by `group.run`, others by
`group.closed_at_stop`. `group` end in the reverse order. A check added by
`runtime.add_readiness_check` makes the process not ready later on.
Roles of one process start together and stop in the reverse of this order.
"""

from collections.abc import Mapping

ROLES: Mapping[str, tuple[str, str]] = {
    "decider": ("decider", "decides commands: one writer per partition"),
    "gateway-sync": ("gateway_sync", "compiles what gateways are to run"),
    "projector": ("projector", "keeps the read models"),
    "xds": ("xds", "serves proxies their configuration"),
    "envoy": ("envoy", "runs a real Envoy and probes it"),
    "api": ("api", "answers HTTP"),
}
"""Per role its module in this package and what it does."""
