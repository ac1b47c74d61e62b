"""APIs and their immutable revisions."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints

from schemas.aggregate import Aggregate, Part, Route
from schemas.aggregates.gateway import Digest
from schemas.codecs.canonical import digest
from schemas.limits import (
    LONGEST_ANNOTATION,
    LONGEST_LABEL,
    LONGEST_LABEL_NAME,
    LONGEST_PLAN,
    LONGEST_POLICY_VERSION,
    MOST_BACKENDS,
    MOST_DELEGATED,
    MOST_ENDPOINTS,
    MOST_HEADERS,
    MOST_HOSTS,
    MOST_LABELS,
    MOST_OPERATIONS,
    MOST_PARAMS,
    MOST_PLANS,
    MOST_POLICIES,
    MOST_UPSTREAMS,
    AtMost,
)
from schemas.message import Command, Event, Name, Value

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"]
Milliseconds = Annotated[int, Field(ge=0, le=86_400_000, description="Milliseconds; 0 switches it off.")]
Context = Annotated[
    str,
    StringConstraints(max_length=200, pattern=r"^(/[A-Za-z0-9._~-]+)+$"),
    Field(
        description="The path under which the API is reached; no slash at its end.", examples=["/orders/v1"]
    ),
]
Host = Annotated[
    str,
    StringConstraints(max_length=253, pattern=r"^(\*|(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?)$"),
    Field(
        description="A host name in lower case, may begin with `*.`; `*` is any.",
        examples=["api.example.com"],
    ),
]


class Policy(Value):
    """Processing that a gateway applies to a request or its response."""

    name: str = Field(
        min_length=1, max_length=100, description="The name of the policy.", examples=["set-headers"]
    )
    version: Annotated[str, AtMost(LONGEST_POLICY_VERSION)] = Field(
        default="v1", pattern=r"^v[0-9]+$", description="The version of the policy.", examples=["v1"]
    )
    params: Annotated[dict[str, Any], AtMost(MOST_PARAMS)] = Field(
        default_factory=dict, description="The parameters that the policy takes."
    )
    condition: str | None = Field(
        default=None,
        max_length=2000,
        description="When the policy applies. Envoy gateways do not evaluate it yet and reject it.",
    )


class Endpoint(Value):
    """The address of a server: scheme, host and port, no path."""

    url: str = Field(
        pattern=r"^https?://[^/?#\s]+$",
        max_length=500,
        description="Scheme, host and port, without a path.",
        examples=["http://127.0.0.1:9000"],
    )
    weight: int = Field(
        default=1, ge=0, le=10_000, description="Its share of the requests, relative to the other endpoints."
    )


class Upstream(Value):
    """A named service behind the gateway."""

    name: Name
    endpoints: Annotated[tuple[Endpoint, ...], AtMost(MOST_ENDPOINTS)] = Field(
        min_length=1, description="The endpoints of this upstream."
    )
    base_path: str = Field(
        default="",
        max_length=500,
        pattern=r"^(/[^?#\s]*[^/?#\s])?$",
        description="The path at the upstream that replaces the context; no slash at its end.",
        examples=["/v2"],
    )
    connect_timeout: Milliseconds | None = Field(
        default=None, description="Time limit for connecting to an endpoint."
    )
    max_in_flight: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="How many requests one gateway node sends or queues at a time; more are answered 503. "
        "10,000 when it is left out.",
    )


class Backend(Value):
    """One backend: an upstream and its share."""

    upstream: Name
    weight: int = Field(
        default=1, ge=0, le=10_000, description="Its share of the requests, relative to the other backends."
    )


class HeaderMatch(Value):
    name: str = Field(min_length=1, max_length=200, description="The name of the header.")
    value: str = Field(
        max_length=2000, description="The value, or a regular expression that matches all of it."
    )
    type: Literal["Exact", "RegularExpression"] = Field(
        default="Exact", description="How `value` is compared."
    )


class Resilience(Value):
    timeout: Milliseconds | None = Field(
        default=None, description="Time limit for the complete response of the upstream."
    )
    idle_timeout: Milliseconds | None = Field(
        default=None, description="Time limit for a request without traffic."
    )
    retries: int | None = Field(
        default=None, ge=0, le=10, description="The number of retries of a failed request."
    )
    retry_on: str | None = Field(
        default=None,
        max_length=500,
        description="Which failures are retried: Envoy's conditions and status codes, separated by commas.",
        examples=["connect-failure,refused-stream,503"],
    )


Backends = Annotated[tuple[Backend, ...], AtMost(MOST_BACKENDS)]
Policies = Annotated[tuple[Policy, ...], AtMost(MOST_POLICIES)]
Hosts = Annotated[tuple[Host, ...], AtMost(MOST_HOSTS)]
Plan = Annotated[str, AtMost(LONGEST_PLAN)]
LabelName = Annotated[str, AtMost(LONGEST_LABEL_NAME)]
Label = Annotated[str, AtMost(LONGEST_LABEL)]
Annotation = Annotated[str, AtMost(LONGEST_ANNOTATION)]


class Operation(Value):
    """An operation of an API: a method and a path below the context.

    `path` is `/`-separated: literals, `{parameter}` segments, and `*` as the last segment for
    everything below.
    """

    method: Method = Field(description="The method of the request.")
    path: str = Field(
        pattern=r"^/[^?#\s]*$",
        max_length=1000,
        description="The path below the context: literals, `{parameter}` segments, and `*` as the last "
        "segment for everything below.",
        examples=["/orders/{id}"],
    )
    operation_id: str | None = Field(
        default=None, max_length=200, description="A name of the operation; it has no effect on requests."
    )
    headers: Annotated[tuple[HeaderMatch, ...], AtMost(MOST_HEADERS)] = Field(
        default=(), description="Headers that a request must have to match this operation."
    )
    backends: Backends = Field(default=(), description="Backends of this operation, instead of the API's.")
    policies: Policies = Field(default=(), description="Policies of this operation, after the API's.")
    resilience: Resilience | None = Field(
        default=None, description="Time-outs and retries of this operation; the API's apply to omitted ones."
    )


class ApiSpec(Value):
    """The specification of an API, independent of the form it was written in."""

    display_name: str = Field(default="", max_length=200, description="A title for people.")
    description: str = Field(default="", max_length=10_000, description="A text for people.")
    version: str = Field(
        default="v1", min_length=1, max_length=50, description="The version of the API, as its owner counts."
    )
    context: Context
    hosts: Hosts = Field(default=("*",), description="Hosts under which the API is reached; `*` is any.")
    upstreams: Annotated[tuple[Upstream, ...], AtMost(MOST_UPSTREAMS)] = Field(
        min_length=1, description="The services behind the API."
    )
    backends: Backends = Field(min_length=1, description="Which upstreams get the requests.")
    sandbox_hosts: Hosts = Field(
        default=(), description="Hosts under which the sandbox backends are reached."
    )
    sandbox_backends: Backends = Field(
        default=(), description="Which upstreams get the requests to the sandbox hosts."
    )
    operations: Annotated[tuple[Operation, ...], AtMost(MOST_OPERATIONS)] = Field(
        min_length=1, description="Requests that the API answers; all others are answered 404 or 405."
    )
    policies: Policies = Field(default=(), description="Policies of all operations, in this order.")
    resilience: Resilience | None = Field(
        default=None, description="Time-outs and retries of all operations."
    )
    plans: Annotated[tuple[Plan, ...], AtMost(MOST_PLANS)] = Field(
        default=(), description="Names of subscription plans; no gateway enforces them yet."
    )
    delegated_contexts: Annotated[tuple[Context, ...], AtMost(MOST_DELEGATED)] = Field(
        default=(),
        description="Contexts, this API's or below it, that other APIs may have on its gateways and answer "
        "requests of this one there.",
        examples=[["/orders/v1/invoices"]],
    )
    labels: Annotated[dict[LabelName, Label], AtMost(MOST_LABELS)] = Field(
        default_factory=dict, description="Short values by name, such as `team: checkout`."
    )
    annotations: Annotated[dict[LabelName, Annotation], AtMost(MOST_LABELS)] = Field(
        default_factory=dict, description="Longer values by name."
    )


def content_digest(spec: ApiSpec) -> str:
    """SHA-256 of the specification in canonical JSON.

    Fields that later versions added are included only when set, so that digests of older revisions stay the
    same.
    """
    content = spec.model_dump(mode="json")
    if not spec.delegated_contexts:
        del content["delegated_contexts"]
    return digest(content)


class Document(Value):
    """The definition as it was written; stored by its hash, not on the event log."""

    sha256: Digest
    media_type: str = Field(default="application/yaml", max_length=100)
    size: int = Field(ge=0, description="Bytes.")
    form: str = Field(max_length=100, description="The kind of definition.", examples=["signalbox.io/v1"])


class PublishApi(Command):
    aggregate: ClassVar[str] = "api"
    verb: ClassVar[str] = "publish"

    project: Name = "default"
    spec: ApiSpec
    document: Document | None = None


class DeleteApi(Command):
    aggregate: ClassVar[str] = "api"
    verb: ClassVar[str] = "delete"


class ApiPublished(Event):
    """A new revision exists. It never changes."""

    aggregate: ClassVar[str] = "api"
    verb: ClassVar[str] = "published"

    project: Name
    revision: int = Field(ge=1)
    digest: Digest = Field(description="SHA-256 of the specification in canonical JSON.")
    spec: ApiSpec
    document: Document | None = None


class ApiDeleted(Event):
    aggregate: ClassVar[str] = "api"
    verb: ClassVar[str] = "deleted"
    effect = "end"


class Api(Value):
    name: Name
    project: Name
    revision: int = Field(description="The newest revision.")
    digest: Digest
    spec: ApiSpec
    document: Document | None = None


API = Aggregate(
    name="api",
    plural="apis",
    summary="An API with its immutable revisions.",
    view=Api,
    commands=(PublishApi, DeleteApi),
    events=(ApiPublished, ApiDeleted),
    routes=(Route("PUT", PublishApi), Route("DELETE", DeleteApi)),
    columns=("name", "project", "revision", "spec.version", "spec.context", "live"),
    parts=(Part("revisions", ApiPublished, "revision"),),
)
