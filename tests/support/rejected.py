"""APIs that Envoy rejects, apart from `tests.support.calls` because the translator is slow to load."""

from typing import Any

from tests.support.calls import specification
from xds.translate.regex import regex_problem

NOT_RE2 = ("[[:nope:]]", r"[\b]")
"""Expressions that the translator accepts and Envoy's RE2 rejects."""


def rejected_by_envoy(context: str, upstream: str) -> dict[str, Any]:
    """The specification of an API that is decided and compiled, and that Envoy rejects."""
    return matching(next(e for e in NOT_RE2 if regex_problem(e) is None), context, upstream)


def matching(expression: str, context: str, upstream: str) -> dict[str, Any]:
    """The specification of an API whose operation needs a header that matches."""
    header = {"name": "x-kind", "value": expression, "type": "RegularExpression"}
    operations = [{"method": "GET", "path": "/items", "headers": [header]}]
    return specification(context, upstream, operations=operations)
