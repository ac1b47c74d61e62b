"""The gateway-neutral configuration: common to all kinds of gateways."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gateways.upstream_access import EVERYWHERE, UpstreamAccess

MAX_IN_FLIGHT = 10_000
"""The default of `Upstream.max_in_flight`."""

EscapedSlashes = Literal["reject", "redirect", "decode"]
UnderscoreHeaders = Literal["reject", "drop", "allow"]


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of a path. A tail stands for everything below, and comes last."""

    kind: Literal["literal", "parameter", "tail"]
    text: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    scheme: Literal["http", "https"]
    host: str
    port: int
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Upstream:
    """A destination of requests. Two upstreams with the same values are the same upstream.

    `max_in_flight`: the requests that one node sends or queues at a time; further ones are answered 503.
    """

    endpoints: tuple[Endpoint, ...]
    connect_timeout_ms: int = 5000
    max_in_flight: int = MAX_IN_FLIGHT


@dataclass(frozen=True, slots=True)
class WeightedBackend:
    """A share of the traffic: to this upstream, below this path."""

    upstream: Upstream
    base_path: str = ""
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Policy:
    """A change of requests or responses; `params` as written, checked by the translator."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    condition: str = ""
    pointer: str = ""


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    name: str
    value: str
    regex: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """One operation: `path` is below the API's context; `pointer` is its place in the specification."""

    method: str
    path: tuple[Segment, ...]
    backends: tuple[WeightedBackend, ...]
    headers: tuple[HeaderMatch, ...] = ()
    policies: tuple[Policy, ...] = ()
    timeout_ms: int | None = None
    idle_timeout_ms: int | None = None
    retries: int | None = None
    retry_on: str = ""
    operation_id: str = ""
    pointer: str = ""


@dataclass(frozen=True, slots=True)
class DeployedApi:
    """One API as one gateway shall serve it. It is changed, and rejected, as a whole."""

    organization: str
    api: str
    revision: int
    deployment: str
    context: tuple[Segment, ...]
    hosts: tuple[str, ...]
    routes: tuple[Route, ...]
    sandbox_hosts: tuple[str, ...] = ()
    sandbox_backends: tuple[WeightedBackend, ...] = ()


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Settings of a whole gateway. `subject` is `organizations/<org>/gateways/<name>`.

    `trusted_proxies`: the number of proxies in front of it that are trusted with the caller's address.
    """

    subject: str
    kind: str
    address: str
    port: int
    revision_header: bool = True
    probe_secret: str = ""
    access: UpstreamAccess = EVERYWHERE
    escaped_slashes: EscapedSlashes = "reject"
    underscore_headers: UnderscoreHeaders = "reject"
    trusted_proxies: int = 0


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A feature that a gateway kind does not support: its pointer in the specification, and a description.

    `only_new`: new deployments are rejected for it; an API that is served already stays as it is.
    """

    pointer: str
    detail: str
    only_new: bool = False


def unsupported_text(findings: Iterable[Unsupported]) -> str:
    """The text of an error: each unsupported feature once, with the pointers to its uses."""
    places: dict[str, list[str]] = {}
    for finding in findings:
        places.setdefault(finding.detail, []).append(finding.pointer)
    return "; ".join(f"unsupported: {detail} ({', '.join(at)})" for detail, at in places.items())


class UnsupportedError(Exception):
    """A deployment uses a feature that the gateway kind does not support."""

    def __init__(self, findings: tuple[Unsupported, ...]) -> None:
        super().__init__(unsupported_text(findings))
        self.findings = findings
