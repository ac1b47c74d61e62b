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
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    return lambda: [r.message for r in caplog.records if r.levelname == "WARNING"]


def test_the_same_is_said_once_and_later_how_often_it_was(
    denials: Denials, now: list[float], said: Callable[[], list[str]]
) -> None:
    for _ in range(4):
        denials("no")
    assert said() == ["no"]

    now[0] = SECONDS
    denials("no")

    assert said() == ["no", "no (3 more times since it was said last)"]


def test_something_else_is_said_at_once(denials: Denials, said: Callable[[], list[str]]) -> None:
    denials("no")
    denials("neither")
    assert said() == ["no", "neither"]


def test_many_different_ones_are_bounded_until_time_has_passed(
    denials: Denials, now: list[float], said: Callable[[], list[str]]
) -> None:
    for number in range(MOST + 10):
        denials(str(number))
    assert len(said()) == MOST

    now[0] = SECONDS
    denials("later")

    assert said()[MOST:] == ["later"]
