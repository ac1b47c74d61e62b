"""Validation of the id and agent of a proxy, which are stored and shown."""

import re

from xds.server.limits import LONGEST_AGENT, LONGEST_NODE_ID
from xds.server.wire import Node, WireError

_ID = re.compile(r"[!-)+-~]+")


def require_valid(node: Node) -> None:
    """Raises WireError with the field and its constraint.

    An id has 1 to LONGEST_NODE_ID visible ASCII characters other than `*`.
    """
    if not node.id:
        raise WireError("node.id is missing")
    if len(node.id) > LONGEST_NODE_ID:
        raise WireError(f"node.id takes at most {LONGEST_NODE_ID} characters, it has {len(node.id)}")
    if not _ID.fullmatch(node.id):
        raise WireError("node.id takes letters, digits and punctuation of ASCII, without spaces and '*'")
    if len(node.agent) > LONGEST_AGENT or not node.agent.isprintable():
        raise WireError(
            f"node.user_agent_name and its version take at most {LONGEST_AGENT} printable characters"
        )
