"""Envelopes as hypothesis strategies."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from schemas.envelope import ATTRIBUTES, Envelope

OPTIONAL = (
    "dataschema", "dataref", "correlationid", "causationid", "traceparent", "authtype", "authid",
)  # fmt: skip

_text = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=30)


def json_objects_of(characters: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    """JSON objects whose keys and texts are made of these characters."""
    text = st.text(characters, max_size=12)
    values: st.SearchStrategy[Any] = st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | text,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
        max_leaves=8,
    )
    return st.dictionaries(text, values, max_size=5)


json_objects = json_objects_of(st.characters(codec="utf-8"))
times = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)).map(
    lambda t: t.isoformat(timespec="microseconds").replace("+00:00", "Z")
)


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    required = {name: draw(_text) for name in ("id", "type", "source", "subject", "partitionkey")}
    optional = {name: draw(_text) for name in OPTIONAL if draw(st.booleans())}
    event = Envelope(**required, **optional, time=draw(times), data=draw(json_objects))
    if draw(st.booleans()):
        return event.chained(
            draw(st.integers(1, 10**12)), draw(st.from_regex(r"[0-9a-f]{64}", fullmatch=True))
        )
    return event


assert set(OPTIONAL) < set(ATTRIBUTES)
