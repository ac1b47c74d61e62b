"""The policies that Envoy can carry out. A new one needs a module and an item in this list."""

from collections.abc import Iterable, Sequence

from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter

from gateways.model import Policy
from xds.translate.policies import cors, remove_headers, set_headers
from xds.translate.policies.policy import Contributions, PolicyKind

POLICIES: tuple[PolicyKind, ...] = (
    cors.POLICY,
    remove_headers.POLICY,
    set_headers.POLICY,
)
"""Their HTTP filters are in the chain in this order."""


def http_filters(kinds: Iterable[PolicyKind] = POLICIES) -> list[HttpFilter]:
    """The HTTP filters of these policies, each once. Every gateway has those of all policies in its chain."""
    return list({each.name: each for kind in kinds for each in kind.filters}.values())


BY_NAME = {kind.name: kind for kind in POLICIES}


def contributions_of(
    policies: Sequence[Policy], gateway: str = ""
) -> tuple[Contributions, tuple[tuple[Policy, str], ...]]:
    """The contributions of the policies of an operation on a gateway, and the problems of each policy.

    Without a gateway the policies are only checked.
    """
    contributions = Contributions(gateway)
    problems: list[tuple[Policy, str]] = []
    for policy in policies:
        kind = BY_NAME.get(policy.name)
        if kind is None:
            problems.append((policy, f"the policy {policy.name}: Envoy gateways do not have it yet"))
            continue
        found = kind.apply(policy.params, contributions)
        problems.extend((policy, f"the policy {policy.name}: {problem}") for problem in found)
    return contributions, tuple(problems)
