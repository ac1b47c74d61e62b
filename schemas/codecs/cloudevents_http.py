"""CloudEvents 1.0 over HTTP for other programs: structured, batched and binary mode.

The CloudEvents SDK decodes, so that exactly the events of the specification are accepted; internal code
uses `Envelope`. Times are normalised to UTC with microseconds. Unknown extensions are left out.
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
"""

import re
from base64 import b64decode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import unquote

import orjson
from cloudevents.core.base import BaseCloudEvent, EventFactory
from cloudevents.core.bindings.http import HTTPMessage, from_binary, from_structured
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from schemas.envelope import ATTRIBUTES, Envelope

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"

_JSON = re.compile(r"(application|text)/([a-z0-9.-]+\+)?json")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


class Malformed(Exception):
    """The input is not a valid CloudEvent. `attribute` is the location: an attribute's name, `data`,
    `content-type`, or empty for the whole; `index` counts from 0 in a batch."""

    def __init__(self, attribute: str, detail: str, index: int | None = None) -> None:
        super().__init__(detail if index is None else f"event {index}: {detail}")
        self.attribute = attribute
        self.detail = detail
        self.index = index


def from_http(headers: Mapping[str, str], body: bytes) -> list[Envelope]:
    """The events of one HTTP message, one or (batch) any number.

    Optional attributes that are missing (`subject`, `time`, `partitionkey`) are returned empty; the
    receiver sets them. Raises Malformed.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    media = lower.get("content-type", "").split(";")[0].strip().lower()
    if media == BATCH:
        events = _json(body, "")
        if not isinstance(events, list):
            raise Malformed("", "a batch is a JSON array of events")
        return [_member(event, i) for i, event in enumerate(cast("list[Any]", events))]
    if media == STRUCTURED:
        return [from_sdk(from_structured(HTTPMessage(dict(headers), body), STRICT, strict_event))]
    if media.startswith("application/cloudevents"):
        raise Malformed("content-type", f"{media} is not read here; send {STRUCTURED} or {BATCH}")
    if "ce-specversion" in lower:
        return [_binary(lower, body)]
    raise Malformed(
        "content-type",
        f"not a CloudEvent: send {STRUCTURED}, {BATCH}, or `ce-` headers with at least `ce-specversion`",
    )


def from_sdk(event: BaseCloudEvent) -> Envelope:
    """The envelope of an SDK event. Raises Malformed."""
    attributes = event.get_attributes()
    media = media_type(str(attributes.get("datacontenttype", "application/json")))
    if not _JSON.fullmatch(media):
        raise Malformed("datacontenttype", f"data must be JSON, not {media}")
    present = {name: text(name, attributes[name]) for name in ATTRIBUTES if name in attributes}
    data: Any = event.get_data()
    if isinstance(data, (bytes, str)):
        data = _json(data, "data")
    if not isinstance(data, dict):
        raise Malformed("data", "data must be a JSON object")
    return Envelope(
        **{"subject": "", "time": "", "partitionkey": "", **present}, data=cast("dict[str, Any]", data)
    )


class _StrictJson(JSONFormat):
    """The SDK's JSON format, strict: input that is not JSON is an error, never text or NaN."""

    def read(self, event_factory: EventFactory | None, data: str | bytes) -> BaseCloudEvent:
        return _from_object(_json(data, ""))

    def read_data(self, body: bytes, datacontenttype: str | None) -> bytes:
        return body


STRICT = _StrictJson()


def media_type(content_type: str) -> str:
    return content_type.split(";")[0].strip().lower()


def _json(text: bytes | str, attribute: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Malformed(attribute, f"not JSON: {error}") from error


def _from_object(event: Any) -> CloudEvent:
    """One event in its JSON form (JSON event format, section 3); null is absent."""
    if not isinstance(event, dict):
        raise Malformed("", "an event is a JSON object")
    attributes = {name: value for name, value in cast("dict[str, Any]", event).items() if value is not None}
    data = attributes.pop("data", None)
    if "data_base64" in attributes:
        try:
            data = b64decode(attributes.pop("data_base64"), validate=True)
        except (TypeError, ValueError) as error:
            raise Malformed("data_base64", "data_base64 is not base64") from error
    if "time" in attributes:
        attributes["time"] = moment(attributes["time"])
    return strict_event(attributes, data)


def _member(event: Any, index: int) -> Envelope:
    try:
        return from_sdk(_from_object(event))
    except Malformed as error:
        raise Malformed(error.attribute, error.detail, index) from error


def _binary(headers: Mapping[str, str], body: bytes) -> Envelope:
    if "ce-time" in headers:
        moment(unquote(headers["ce-time"]))
    return from_sdk(from_binary(HTTPMessage(dict(headers), body), STRICT, strict_event))


def strict_event(attributes: dict[str, Any], data: Any) -> CloudEvent:
    """The SDK generates a missing id, version and time; here a missing id or version is an error, and a
    missing time stays absent."""
    for name in ("specversion", "id"):
        if name not in attributes:
            raise Malformed(name, f"Missing required attribute: '{name}'")
    timeless = "time" not in attributes
    try:
        event = CloudEvent(attributes, data)
    except CloudEventValidationError as error:
        name, problems = next(iter(error.errors.items()))
        raise Malformed(name, str(problems[0])) from error
    if timeless:
        event.get_attributes().pop("time")
    return event


def moment(time: Any) -> datetime:
    try:
        if isinstance(time, str) and _RFC3339.fullmatch(time):
            return datetime.fromisoformat(time.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Malformed("time", f"time is not a moment: {error}") from error
    raise Malformed("time", "time must be an RFC 3339 timestamp such as 2026-11-21T02:30:00Z")


def text(name: str, value: Any) -> str:
    """An attribute in the canonical string form of its CloudEvents type (specification, section 3.1)."""
    if isinstance(value, str) and value:
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and -(2**31) <= value < 2**31:
        return str(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    raise Malformed(name, f"{name} must be a string that is not empty, a boolean or a 32-bit integer")
