"""Limits on the size of commands, rejections, log reads and HTTP answers. All limits are here.

Commands are bounded when they are validated, and the bounds are in their JSON Schema. Events are not
bounded: an accepted event stays readable when a bound changes (`HISTORY`).
"""

from collections.abc import Sized
from dataclasses import dataclass
from typing import Any, cast

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

LARGEST_COMMAND = 1_000_000
"""Bytes of a command with its attributes, as it is written to the log. On Kafka the limit can be
configured."""
LARGEST_READ = 1 << 20
"""Bytes of records after which one read of the log ends; each read returns at least one record."""
LARGEST_PAGE = 4 << 20
"""Bytes of items after which a page of an HTTP answer ends; each page has at least one item."""
MOST_PARAMETERS = 50
"""In the query string of a request."""

MOST_HOSTS = 100
MOST_UPSTREAMS = 1_000
MOST_ENDPOINTS = 1_000
"""Of one upstream."""
MOST_BACKENDS = 100
"""Of an API or of one operation."""
MOST_OPERATIONS = 10_000
MOST_HEADERS = 50
"""Header matches of one operation."""
MOST_POLICIES = 100
"""Of an API or of one operation."""
LONGEST_POLICY_VERSION = 20
MOST_PARAMS = 1_000
"""Top-level parameters of one policy."""
MOST_PLANS = 1_000
LONGEST_PLAN = 200
MOST_LABELS = 100
"""Labels, and annotations, of an API."""
LONGEST_LABEL_NAME = 300
LONGEST_LABEL = 1_000
LONGEST_ANNOTATION = 100_000

MOST_NETWORKS = 100
"""Networks that a gateway may reach besides those it reaches by default."""
LONGEST_NETWORK = 50

MOST_CLAIMS = 20_000
"""Hosts, sandbox hosts included, times gateways of one deployment."""
MOST_PLACES = 200_000
"""Keys by which one deployment is compared with others: per claim, labels of its host times segments of its
context."""
MOST_DELEGATED = 100
"""Contexts that an API delegates."""

MOST_ERRORS = 100
"""Errors that the outcome of a rejected command lists; further errors are only counted."""
MOST_LISTED = 1_000
"""Errors that an HTTP answer lists; further errors are only counted."""
MOST_COUNTED = 10_000
"""Errors of one body that are examined individually; further errors are only counted."""
LONGEST_POINTER = 500
LONGEST_DETAIL = 1_000

HISTORY = {"history": True}
"""The validation context of messages read from the event log: bounds do not apply."""


@dataclass(frozen=True, slots=True)
class AtMost:
    """Annotates a list, mapping or string of a message: up to `count` items, entries or characters.

    The size is checked before the content, so that a value that is too large costs no validation.
    """

    count: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def check(value: Any, info: ValidationInfo) -> Any:
            # hasattr costs a third of isinstance(value, Sized), and most fields of an API have a bound.
            if hasattr(value, "__len__") and info.context is not HISTORY and len(value) > self.count:
                raise _too_long(value, self.count)
            # Behind a validator function JSON input is a Python value, and strict mode accepts no list for
            # a tuple.
            return tuple(cast("list[Any]", value)) if isinstance(value, list) else value

        return core_schema.with_info_before_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        described = handler(schema)
        keyword = {"array": "maxItems", "object": "maxProperties", "string": "maxLength"}
        return {**described, keyword[cast("str", described["type"])]: self.count}


def _too_long(value: Sized, most: int) -> PydanticKnownError:
    if isinstance(value, str):
        return PydanticKnownError("string_too_long", {"max_length": most})
    size = len(value)
    kind = "Mapping" if isinstance(value, dict) else "List"
    return PydanticKnownError("too_long", {"field_type": kind, "max_length": most, "actual_length": size})
