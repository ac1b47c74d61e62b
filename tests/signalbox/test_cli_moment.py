"""What `--as-of` takes."""

from datetime import UTC, datetime

import pytest

from signalbox.cli.moment import moment
from tests.signalbox.answers import ORG, api, page
from tests.signalbox.conftest import Run
from tests.signalbox.server_stand_in import StandIn

NOW = datetime(2026, 11, 21, 16, 30, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("42", "42"),
        ("0:42", "0:42"),
        ("12:420", "12:420"),
        ("10:00", "2026-11-21T10:00:00Z"),
        ("10:00:07", "2026-11-21T10:00:07Z"),
        ("10:00:07.123", "2026-11-21T10:00:07.123000Z"),
        ("10:00Z", "2026-11-21T10:00:00Z"),
        ("10:00+02:00", "2026-11-21T08:00:00Z"),
        ("2026-11-20", "2026-11-20T00:00:00Z"),
        ("2026-11-20 10:00", "2026-11-20T10:00:00Z"),
        ("2026-11-20T10:00:00Z", "2026-11-20T10:00:00Z"),
        ("2026-11-20t10:00:00.5+01:00", "2026-11-20T09:00:00.500000Z"),
    ],
)
def test_positions_stay_and_times_become_times_in_utc(given: str, asked: str) -> None:
    assert moment(given, NOW) == asked


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("yesterday", "'yesterday' is none of them"),
        ("", "'' is none of them"),
        ("25:00", "'25:00' is none of them"),
        ("10:60", "'10:60' is none of them"),
        ("2026-02-30", "'2026-02-30' is none of them"),
        ("10:", "'10:' is none of them"),
        ("-5", "'-5' is none of them"),
        ("17:30", "'17:30' is 2026-11-21T17:30:00Z, it is 2026-11-21T16:30:05Z now"),
        ("2027-01-01", "it is 2026-11-21T16:30:05Z now"),
    ],
)
def test_an_invalid_or_future_moment_is_refused(given: str, message: str) -> None:
    with pytest.raises(ValueError, match="takes") as refused:
        moment(given, NOW)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "command", [("get", "apis"), ("get", "api", "orders"), ("describe", "api", "orders")]
)
def test_a_wrong_moment_is_wrong_usage_and_nothing_is_asked(
    run: Run, stand_in: StandIn, command: tuple[str, ...]
) -> None:
    ran = run(*command, "--as-of", "half past nine")
    assert ran.code == 3
    assert "--as-of takes a position (42, 0:42), a time" in ran.err
    assert stand_in.asked == []


def test_a_time_of_day_is_asked_for_as_a_time_of_today(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"GET {ORG}/apis"] = page(api("orders"))
    before = datetime.now(UTC).date()
    assert run("get", "apis", "--as-of", "00:00").code == 0
    after = datetime.now(UTC).date()
    assert stand_in.asked[0].query["as_of"] in {f"{day}T00:00:00Z" for day in (before, after)}
