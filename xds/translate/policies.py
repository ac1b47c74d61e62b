"""The policies Envoy can carry out. A new one is a module and its name in this list."""

from collections.abc import Sequence

from gateways.model import Policy
from xds.translate import cors, remove_headers, set_headers
from xds.translate.policy import Effects, PolicyKind

POLICIES: tuple[PolicyKind, ...] = (
    cors.POLICY,
    remove_headers.POLICY,
    set_headers.POLICY,
)

_BY_NAME = {p.name: p for p in POLICIES}


def effects_of(policies: Sequence[Policy]) -> tuple[Effects, tuple[tuple[Policy, str], ...]]:
    """The effects of policies, the later one winning; and each policy's problems."""
    effects = Effects()
    problems: list[tuple[Policy, str]] = []
    for policy in policies:
        kind = _BY_NAME.get(policy.name)
        if kind is None:
            problems.append((policy, f"the policy {policy.name}: Envoy gateways do not have it yet"))
            continue
        said = kind.apply(policy.params, effects)
        problems.extend((policy, f"the policy {policy.name}: {problem}") for problem in said)
    return effects, tuple(problems)
