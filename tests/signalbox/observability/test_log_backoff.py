"""When to say again what recurs."""

from signalbox.observability.log_backoff import LogBackoff

EVERY = 2.0


def logged_at(recurring: LogBackoff, times: int, key: str = "node-1", start: float = 0.0) -> list[float]:
    """The times at which a condition that recurs every 2 s is logged."""
    moments = [start + EVERY * i for i in range(times)]
    return [moment for moment in moments if recurring.is_due(key, moment)]


def test_a_recurring_condition_is_logged_at_once_and_then_at_growing_intervals() -> None:
    assert logged_at(LogBackoff(EVERY, most=3600), 40) == [0, 4, 12, 28, 60]


def test_the_distance_grows_up_to_the_most() -> None:
    assert logged_at(LogBackoff(EVERY, most=10), 20) == [0, 4, 12, 22, 32]


def test_each_key_is_logged_independently() -> None:
    recurring = LogBackoff(EVERY, most=3600)
    assert recurring.is_due("node-1", 0) and recurring.is_due("node-2", 0)
    assert not recurring.is_due("node-1", 2) and not recurring.is_due("node-2", 2)


def test_an_ended_condition_is_logged_at_once_when_it_begins_again() -> None:
    recurring = LogBackoff(EVERY, most=3600)
    logged_at(recurring, 40)
    assert logged_at(recurring, 3, start=200) == [200, 204]
