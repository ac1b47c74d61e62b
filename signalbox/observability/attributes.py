"""The names of the attributes of spans and log lines.

Listed in docs/operations.md.
"""

from collections.abc import Mapping
from typing import Any

from schemas.catalog import BY_PLURAL
from schemas.envelope import Envelope
from schemas.status import DeliveryReported, NodeReported

ORGANIZATION = "organization"
API = "api"
REVISION = "revision"
GATEWAY = "gateway"
ENVIRONMENT = "environment"
DEPLOYMENT = "deployment"
NODE = "node"
COMMAND = "command"
RULE = "rule"
REASON = "reason"
BY = "by"

ID = "signalbox.id"
"""Of a span: the id of the command or the deployment."""

SPAN_PREFIX = "signalbox."
"""The prefix of these names in spans; log lines have none."""

HTTP_ROUTE = "http.route"
HTTP_METHOD = "http.request.method"
HTTP_STATUS = "http.response.status_code"
URL_PATH = "url.path"

LONGEST_REASON = 500

Attributes = dict[str, str | int]


def of_command(command: Envelope, subject: str) -> Attributes:
    """The attributes of a command; `subject` is the resource's, which is known after the decision."""
    data = command.data
    parts = subject.split("/")
    aggregate = BY_PLURAL.get(parts[-2]) if len(parts) > 1 else None
    named = {aggregate.name: parts[-1]} if aggregate is not None and not aggregate.top else {}
    return _present(
        {
            ORGANIZATION: command.partitionkey,
            COMMAND: command.type,
            API: named.get(API) or data.get("api"),
            REVISION: data.get("revision"),
            GATEWAY: named.get(GATEWAY) or data.get("gateway"),
            ENVIRONMENT: named.get(ENVIRONMENT) or data.get("environment"),
            DEPLOYMENT: named.get(DEPLOYMENT),
        }
    )


def of_delivery(message: DeliveryReported, started: Mapping[str, str | int] | None = None) -> Attributes:
    """The attributes of a status message; `started` are those of the command that started the deployment."""
    known = started or {}
    return _present(
        {
            ORGANIZATION: message.organization,
            API: message.api or known.get(API),
            REVISION: message.revision or known.get(REVISION),
            GATEWAY: message.name,
            DEPLOYMENT: message.deployment,
            NODE: message.node,
        }
    )


def of_node(message: NodeReported) -> Attributes:
    """The attributes of a status message about a node."""
    return {ORGANIZATION: message.organization, GATEWAY: message.name, NODE: message.node}


def of_request(route: str, path: Mapping[str, Any]) -> Attributes:
    """The attributes of a request, from its route template and the path's parameters."""
    parts = route.split("/")
    aggregate = BY_PLURAL.get(parts[parts.index("{name}") - 1]) if "{name}" in parts else None
    named = {aggregate.name: path.get("name")} if aggregate is not None else {}
    return _present(
        {
            ORGANIZATION: path.get("org"),
            **{name: named.get(name) for name in (API, GATEWAY, ENVIRONMENT, DEPLOYMENT)},
        }
    )


def spanned(attributes: Mapping[str, str | int]) -> Attributes:
    """The attributes with the names for spans."""
    return {SPAN_PREFIX + name: value for name, value in attributes.items()}


def _present(attributes: Mapping[str, Any]) -> Attributes:
    return {name: value for name, value in attributes.items() if isinstance(value, (str, int)) and value}
