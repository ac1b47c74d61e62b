"""Identifiers and times sort as they came about."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from schemas.identity import timestamp, unix_seconds, uuid7


@given(st.integers(min_value=0, max_value=2**48 - 1))
def test_a_uuid7_carries_its_milliseconds(now_ms: int):
    made = uuid.UUID(uuid7(now_ms))
    assert (made.version, made.variant, made.int >> 80) == (7, uuid.RFC_4122, now_ms)
    assert str(made) == str(uuid.UUID(str(made)))


def test_uuid7s_of_one_millisecond_differ():
    assert len({uuid7(1) for _ in range(1000)}) == 1000


@given(st.lists(st.floats(min_value=0, max_value=4e9, allow_nan=False), min_size=2, max_size=5))
def test_timestamps_compare_as_their_times(times: list[float]):
    texts = [timestamp(at) for at in times]
    assert {len(t) for t in texts} == {27}
    assert sorted(texts) == [timestamp(at) for at in sorted(times)]
    assert all(abs(unix_seconds(t) - at) < 1e-5 for t, at in zip(texts, times, strict=True))
