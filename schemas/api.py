"""APIs and their immutable revisions."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints

from schemas.aggregate import Aggregate, Part, Route
from schemas.canonical import digest
from schemas.gateway import Digest
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
    """Something a gateway does with a request or its answer."""

    name: str = Field(min_length=1, max_length=100, examples=["set-headers"])
    version: Annotated[str, AtMost(LONGEST_POLICY_VERSION)] = Field(default="v1", pattern=r"^v[0-9]+$")
    params: Annotated[dict[str, Any], AtMost(MOST_PARAMS)] = Field(default_factory=dict)
    condition: str | None = Field(default=None, max_length=2000)


class Endpoint(Value):
    """Where requests go: scheme, host and port, no path."""

    url: str = Field(pattern=r"^https?://[^/?#\s]+$", max_length=500, examples=["http://127.0.0.1:9000"])
    weight: int = Field(default=1, ge=0, le=10_000)


class Upstream(Value):
    """A named service behind the gateway."""

    name: Name
    endpoints: Annotated[tuple[Endpoint, ...], AtMost(MOST_ENDPOINTS)] = Field(min_length=1)
    base_path: str = Field(default="", max_length=500, pattern=r"^(/[^?#\s]*[^/?#\s])?$", examples=["/v2"])
    connect_timeout: Milliseconds | None = None
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
    weight: int = Field(default=1, ge=0, le=10_000)


class HeaderMatch(Value):
    name: str = Field(min_length=1, max_length=200)
    value: str = Field(max_length=2000)
    type: Literal["Exact", "RegularExpression"] = "Exact"


class Resilience(Value):
    timeout: Milliseconds | None = None
    idle_timeout: Milliseconds | None = None
    retries: int | None = Field(default=None, ge=0, le=10)
    retry_on: str | None = Field(
        default=None, max_length=500, examples=["connect-failure,refused-stream,503"]
    )


Backends = Annotated[tuple[Backend, ...], AtMost(MOST_BACKENDS)]
Policies = Annotated[tuple[Policy, ...], AtMost(MOST_POLICIES)]
Hosts = Annotated[tuple[Host, ...], AtMost(MOST_HOSTS)]
Plan = Annotated[str, AtMost(LONGEST_PLAN)]
LabelName = Annotated[str, AtMost(LONGEST_LABEL_NAME)]
Label = Annotated[str, AtMost(LONGEST_LABEL)]
Annotation = Annotated[str, AtMost(LONGEST_ANNOTATION)]


class Operation(Value):
    """What callers may ask: a method and a path below the context.

    `path` is `/`-separated: literals, `{parameter}` segments, and `*` as the last segment for
    everything below.
    """

    method: Method
    path: str = Field(pattern=r"^/[^?#\s]*$", max_length=1000, examples=["/orders/{id}"])
    operation_id: str | None = Field(default=None, max_length=200)
    headers: Annotated[tuple[HeaderMatch, ...], AtMost(MOST_HEADERS)] = ()
    backends: Backends = ()
    policies: Policies = ()
    resilience: Resilience | None = None


class ApiSpec(Value):
    """What an API is, whatever form it was written in."""

    display_name: str = Field(default="", max_length=200)
    description: str = Field(default="", max_length=10_000)
    version: str = Field(default="v1", min_length=1, max_length=50)
    context: Context
    hosts: Hosts = ("*",)
    upstreams: Annotated[tuple[Upstream, ...], AtMost(MOST_UPSTREAMS)] = Field(min_length=1)
    backends: Backends = Field(min_length=1)
    sandbox_hosts: Hosts = ()
    sandbox_backends: Backends = ()
    operations: Annotated[tuple[Operation, ...], AtMost(MOST_OPERATIONS)] = Field(min_length=1)
    policies: Policies = ()
    resilience: Resilience | None = None
    plans: Annotated[tuple[Plan, ...], AtMost(MOST_PLANS)] = ()
    delegated_contexts: Annotated[tuple[Context, ...], AtMost(MOST_DELEGATED)] = Field(
        default=(),
        description="Contexts, this API's or below it, that other APIs may have on its gateways and answer "
        "requests of this one there.",
        examples=[["/orders/v1/invoices"]],
    )
    labels: Annotated[dict[LabelName, Label], AtMost(MOST_LABELS)] = Field(default_factory=dict)
    annotations: Annotated[dict[LabelName, Annotation], AtMost(MOST_LABELS)] = Field(default_factory=dict)


def content_digest(spec: ApiSpec) -> str:
    """SHA-256 of the specification in canonical JSON.

    A field of a later version counts when it is set, so that what was published before stays the same.
    """
    content = spec.model_dump(mode="json")
    if not spec.delegated_contexts:
        del content["delegated_contexts"]
    return digest(content)


class Document(Value):
    """The definition as it was written; stored by its hash, never on the log."""

    sha256: Digest
    media_type: str = Field(default="application/yaml", max_length=100)
    size: int = Field(ge=0, description="Bytes.")
    form: str = Field(
        max_length=100, description="Which kind of definition it is.", examples=["signalbox.io/v1"]
    )


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
