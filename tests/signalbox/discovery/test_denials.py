"""Warnings about streams that the xDS server did not take."""

from collections.abc import Callable

import pytest

from signalbox.discovery.denials import MOST, SECONDS, Denials


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def denials(now: list[float]) -> Denials:
    return Denials(lambda: now[0])


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    return lambda: [r.message for r in caplog.records if r.levelname == "WARNING"]


def test_a_repeated_warning_is_logged_once_and_later_with_its_count(
    denials: Denials, now: list[float], warnings: Callable[[], list[str]]
) -> None:
    for _ in range(4):
        denials("no")
    assert warnings() == ["no"]

    now[0] = SECONDS
    denials("no")

    assert warnings() == ["no", "no (3 more times since it was logged last)"]


def test_a_different_warning_is_logged_at_once(denials: Denials, warnings: Callable[[], list[str]]) -> None:
    denials("no")
    denials("neither")
    assert warnings() == ["no", "neither"]


def test_many_different_ones_are_bounded_until_time_has_passed(
    denials: Denials, now: list[float], warnings: Callable[[], list[str]]
) -> None:
    for number in range(MOST + 10):
        denials(str(number))
    assert len(warnings()) == MOST

    now[0] = SECONDS
    denials("later")

    assert warnings()[MOST:] == ["later"]
