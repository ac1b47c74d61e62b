"""What others publish is read as the CloudEvents specification says, and nothing is guessed."""

import base64
from datetime import datetime
from typing import Any

import orjson
import pytest
from cloudevents.core.bindings.http import HTTPMessage, to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from schemas.codecs.cloudevents_http import (
    BATCH,
    STRUCTURED,
    Malformed,
    from_http,
    from_sdk,
)
from schemas.envelope import Envelope
from tests.schemas.envelopes import envelopes, json_objects
from tests.schemas.sdk_events import from_json, to_http_batch, to_http_structured, to_sdk

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "1",
    "type": "io.signalbox.api.command.publish.v1",
    "source": "/shop",
    "subject": "organizations/acme/apis/orders",
    "time": "2026-11-21T02:30:00Z",
    "partitionkey": "acme",
    "data": {"organization": "acme"},
}


def structured(**changes: Any) -> list[Envelope]:
    event = {k: v for k, v in {**EVENT, **changes}.items() if v != "absent"}
    return from_http({"Content-Type": f"{STRUCTURED}; charset=UTF-8"}, orjson.dumps(event))


@given(envelopes())
def test_an_envelope_survives_the_sdk(envelope: Envelope) -> None:
    assert from_sdk(to_sdk(envelope)) == envelope


@given(envelopes())
def test_the_sdk_reads_events_of_the_own_codec(envelope: Envelope) -> None:
    event = JSONFormat().read(CloudEvent, envelope.to_json())
    assert from_sdk(event) == envelope


@given(envelopes())
def test_the_own_codec_reads_events_of_the_sdk(envelope: Envelope) -> None:
    """But for the width of the time: the SDK leaves out microseconds that are zero."""
    read = from_json(JSONFormat().write(to_sdk(envelope)))
    assert datetime.fromisoformat(read.time) == datetime.fromisoformat(envelope.time)
    assert {**read.structured(), "time": envelope.time} == envelope.structured()


@given(envelopes())
def test_every_http_mode_gives_the_envelope_back(envelope: Envelope) -> None:
    own, batch = to_http_structured(envelope), to_http_batch([envelope, envelope])
    theirs = [to_structured(to_sdk(envelope), JSONFormat()), to_binary(to_sdk(envelope), JSONFormat())]
    for message in (own, *theirs):
        assert from_http(message.headers, message.body) == [envelope]
    assert from_http(batch.headers, batch.body) == [envelope, envelope]


@given(envelopes())
def test_a_sent_event_verifies_against_the_hash_chain(envelope: Envelope) -> None:
    assert from_json(to_http_structured(envelope).body).hash() == envelope.hash()


def test_an_empty_batch_holds_no_event() -> None:
    assert from_http({"content-type": BATCH}, b"[]") == []


@pytest.mark.parametrize(
    "time",
    ["2026-11-21T02:30:00Z", "2026-11-21t02:30:00.000000z", "2026-11-21T03:30:00+01:00",
     "2026-11-21T02:30:00.000000999Z"],
)  # fmt: skip
def test_times_are_normalised_to_utc_with_microseconds(time: str) -> None:
    [event] = structured(time=time)
    assert event.time == "2026-11-21T02:30:00.000000Z"


def test_missing_optional_attributes_stay_empty_and_are_not_invented() -> None:
    [event] = structured(time="absent", subject="absent", partitionkey=None)
    assert (event.time, event.subject, event.partitionkey) == ("", "", "")
    assert from_sdk(to_sdk(event)) == event


def test_extensions_arrive_in_their_canonical_string_form_and_unknown_ones_are_left_out() -> None:
    [event] = structured(correlationid=7, authtype=True, shoplane="x")
    assert (event.correlationid, event.authtype) == ("7", "true")
    assert "shoplane" not in event.attributes()


def test_base64_data_is_read_when_it_holds_json() -> None:
    [event] = structured(data="absent", data_base64=base64.b64encode(b'{"a":1}').decode())
    assert event.data == {"a": 1}


@pytest.mark.parametrize(
    ("attribute", "changes"),
    [
        ("id", {"id": "absent"}),
        ("id", {"id": ""}),
        ("id", {"id": 7}),
        ("type", {"type": "absent"}),
        ("source", {"source": None}),
        ("specversion", {"specversion": "absent"}),
        ("specversion", {"specversion": "0.3"}),
        ("subject", {"subject": ""}),
        ("time", {"time": "yesterday"}),
        ("time", {"time": "2026-11-21"}),
        ("time", {"time": "2026-W47-6T02:30:00Z"}),
        ("time", {"time": "2026-13-01T00:00:00Z"}),
        ("time", {"time": "0001-01-01T00:00:00+01:00"}),
        ("time", {"time": 5}),
        ("partitionkey", {"partitionkey": ""}),
        ("causationid", {"causationid": ["a"]}),
        ("causationid", {"causationid": 2**31}),
        ("UPPER", {"UPPER": "x"}),
        ("datacontenttype", {"datacontenttype": "text/plain", "data": "hello"}),
        ("data", {"data": "absent"}),
        ("data", {"data": [1]}),
        ("data", {"data": "text"}),
        ("data_base64", {"data": "absent", "data_base64": "%"}),
    ],
)
def test_an_event_that_breaks_the_specification_is_refused_with_the_attribute(
    attribute: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(Malformed) as refused:
        structured(**changes)
    assert refused.value.attribute == attribute
    assert str(refused.value)


@pytest.mark.parametrize(
    ("attribute", "headers", "body"),
    [
        ("content-type", {}, b"{}"),
        ("content-type", {"Content-Type": "application/json"}, b"{}"),
        ("content-type", {"Content-Type": "application/cloudevents+avro"}, b"{}"),
        ("", {"Content-Type": STRUCTURED}, b"{"),
        ("", {"Content-Type": STRUCTURED}, b"[]"),
        ("", {"Content-Type": BATCH}, b"{}"),
        ("data", {"ce-specversion": "1.0", "ce-id": "1", "ce-type": "t", "ce-source": "s"}, b'{"a":NaN}'),
        ("data", {"ce-specversion": "1.0", "ce-id": "1", "ce-type": "t", "ce-source": "s"}, b""),
        ("id", {"ce-specversion": "1.0", "ce-type": "t", "ce-source": "s"}, b"{}"),
        ("time", {"ce-specversion": "1.0", "ce-id": "1", "ce-time": "2026-11-21"}, b"{}"),
    ],
)
def test_a_request_without_an_event_is_refused(attribute: str, headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        from_http(headers, body)
    assert refused.value.attribute == attribute


def test_a_bad_event_in_a_batch_is_named_by_its_index() -> None:
    bad = {k: v for k, v in EVENT.items() if k != "type"}
    with pytest.raises(Malformed, match="event 1: ") as refused:
        from_http({"content-type": BATCH}, orjson.dumps([EVENT, bad]))
    assert (refused.value.index, refused.value.attribute) == (1, "type")


def test_binary_headers_are_percent_decoded_and_their_case_does_not_matter() -> None:
    message = HTTPMessage(
        {"CE-SpecVersion": "1.0", "CE-ID": "1", "Ce-Type": "t", "ce-source": "s", "ce-subject": "caf%C3%A9"},
        b'{"a": 1}',
    )
    [event] = from_http(message.headers, message.body)
    assert (event.subject, event.data) == ("café", {"a": 1})


_anything = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(max_size=5)
    | st.lists(st.text(max_size=2))
)


@given(st.dictionaries(st.sampled_from([*EVENT, "data_base64", "datacontenttype", "x", "É"]), _anything))
def test_any_structured_event_is_read_or_malformed(changes: dict[str, Any]) -> None:
    try:
        [event] = structured(**changes)
    except Malformed as refused:
        assert str(refused)
    else:
        assert from_sdk(to_sdk(event)) == event


@given(
    st.dictionaries(
        st.sampled_from(["ce-id", "ce-type", "ce-source", "ce-time", "ce-subject", "ce-a_b", "content-type"]),
        st.text(st.characters(max_codepoint=255), max_size=20),
    ),
    st.binary(max_size=20) | json_objects.map(orjson.dumps),
)
def test_any_headers_are_read_or_malformed(headers: dict[str, str], body: bytes) -> None:
    known = {"ce-specversion": "1.0", "ce-id": "1", "ce-type": "t", "ce-source": "s", **headers}
    try:
        [event] = from_http(known, body)
    except Malformed as refused:
        assert str(refused)
    else:
        assert from_sdk(to_sdk(event)) == event
