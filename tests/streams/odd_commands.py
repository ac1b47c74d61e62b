"""Odd commands of up to about a megabyte: wide lists, deep values, strange texts, unusable attributes."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from schemas.catalog import COMMANDS
from schemas.codecs.examples import example
from schemas.envelope import Data, Envelope
from streams.kafka.messages.wire import encode
from tests.streams.decider_cases import envelope

LARGEST = 900_000
"""Bytes of a command. Topics take 1,000,000."""
DEEPEST = 150

texts = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=20),
    st.sampled_from(["", "\x00", "\ud7ff\ue000", "x" * 10_000, "../..", "😀" * 5_000]),
)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False), texts
)


def _nested(value: Any, depth: int) -> Any:
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    return value


def _wide(value: Any, size: int) -> list[Any]:
    return [value] * size


values: st.SearchStrategy[Any] = st.one_of(
    scalars,
    st.builds(_nested, scalars, st.integers(1, DEEPEST)),
    st.builds(_wide, scalars, st.integers(1, 80_000)),
    st.builds(lambda size: {f"k{n}": n for n in range(size)}, st.integers(1, 50_000)),
)


@st.composite
def odd_commands(draw: st.DrawFn) -> Envelope:
    """A command of which some fields and attributes are anything; its id and organization are names."""
    model = draw(st.sampled_from(sorted(COMMANDS.values(), key=lambda m: m.type())))
    command = envelope(example(model))
    data: Data = dict(command.data)
    for _ in range(draw(st.integers(0, 3))):
        target = data["spec"] if draw(st.booleans()) and isinstance(data.get("spec"), dict) else data
        target[draw(st.one_of(st.sampled_from(sorted(target)), texts))] = draw(values)
    attributes = draw(
        st.fixed_dictionaries(
            {}, optional=dict.fromkeys(("time", "subject", "correlationid", "traceparent", "type"), texts)
        )
    )
    odd = replace(command, data=data, partitionkey="acme", **attributes)
    return odd if _size(odd) < LARGEST else replace(odd, data={})


def _size(command: Envelope) -> int:
    """Bytes as a Kafka message, whose attributes are headers and percent-encoded."""
    value, headers = encode(command)
    return len(value) + sum(len(name) + len(text) for name, text in headers)
