"""Figures of the benchmarks, compared with the committed ones."""

import pytest

from bench.figure import Figure


@pytest.mark.parametrize(
    ("value", "before", "most", "reported"),
    [
        (12.0, 10.0, True, False),
        (12.1, 10.0, True, True),
        (90.0, 100.0, False, False),
        (80.0, 100.0, False, True),
        (0.0, 0.0, True, False),
        (1.0, 0.0, True, True),
        (0.0, 5.0, False, True),
    ],
)
def test_a_value_that_is_worse_than_the_committed_one_by_a_fifth_is_reported(
    value: float, before: float, most: bool, reported: bool
):
    assert bool(Figure("p50", value, "ms", most=most, compared=True).regression(before)) is reported
    assert Figure("p50", value, "ms", most=most).regression(before) is None
