"""The process is killed at random moments; `bench.crash` runs the same for longer."""

from pathlib import Path

import pytest

from tests.support.kill_rounds import crashes
from tests.support.running_signalbox import RunningSignalbox

pytestmark = pytest.mark.chaos


def test_kill_9_under_load_loses_nothing_doubles_nothing_and_ends_in_sync(
    envoy: Path, harness: RunningSignalbox, upstream: str
):
    report = crashes(harness, upstream, rounds=25, seed=20)
    assert report.faults == []
    assert report.kills == 25
    assert report.kills_during_start >= 3
    assert report.acknowledged >= 200
    assert report.unanswered >= 10, "kills came while commands were under way"
    assert report.repeated >= 100
    print(f"\n{report.acknowledged:,} commands acknowledged, {report.unanswered} sent again")


def test_kill_9_while_revisions_are_rejected_ends_with_every_good_one(
    envoy: Path, harness: RunningSignalbox, upstream: str
):
    report = crashes(harness, upstream, rounds=9, seed=5, rejected=0.4)
    assert report.faults == []
    assert report.kills == 9
    assert report.acknowledged >= 50
