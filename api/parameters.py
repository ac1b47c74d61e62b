"""The parameters that endpoints share."""

from api.endpoint import Parameter, Schema
from api.resources.handlers import LIMIT, MOST

PREFIX = "/api/v1"
ORGANIZATION = PREFIX + "/organizations/{org}"

_NAME = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
_NAME_SCHEMA: Schema = {"type": "string", "minLength": 1, "maxLength": 100, "pattern": _NAME}


def in_path(name: str, description: str, example_: object, schema: Schema | None = None) -> Parameter:
    return Parameter(
        name=name,
        location="path",
        description=description,
        schema=schema or _NAME_SCHEMA,
        example=example_,
        required=True,
    )


ORG = in_path("org", "The organization.", "default")
AS_OF = Parameter(
    name="as_of",
    location="query",
    description="The state at a time (RFC 3339) or position. Waits, bounded, until it can be known; what is "
    "further in the future is refused with 400.",
    schema={
        "anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "pattern": "^[0-9]{1,18}$"}]
    },
)
MIN_POSITION = Parameter(
    name="min_position",
    location="query",
    description="Wait, bounded, until the read model has seen this position.",
    schema={"type": "string", "pattern": "^([0-9]{1,9}:)?[0-9]{1,18}$"},
)
LIMITED = Parameter(
    name="limit",
    location="query",
    description="How many items at most.",
    schema={"type": "integer", "minimum": 1, "maximum": MOST, "default": LIMIT},
)
CURSOR = Parameter(name="cursor", location="query", description="From `next_cursor` of the page before.")
IF_NONE_MATCH = Parameter(
    name="If-None-Match", location="header", description="Answer 304 when the ETag is one of these."
)
PREFER = Parameter(
    name="Prefer",
    location="header",
    description="`wait=N`: wait up to N seconds for the outcome, and answer with it.",
    example="wait=10",
)
IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    location="header",
    description="The command's id: the same key and body get the first answer again.",
    schema={"type": "string", "minLength": 1, "maxLength": 100},
    example="019aa3b6-5b1f-7cc0-8e4b-6f0a4c8f3d21",
)
IF_MATCH = Parameter(
    name="If-Match",
    location="header",
    description="The ETag the change is based on, or `*`. Needed to change what exists.",
    example="*",
)
CREATE_ONLY = Parameter(
    name="If-None-Match", location="header", description="`*`: make it, and refuse when it exists."
)
