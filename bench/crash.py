"""`kill -9` at random moments under load, many rounds."""

from bench.figure import Figure, percentile
from tests.support.kill_rounds import crashes
from tests.support.running_signalbox import running_signalbox


def run(rounds: int = 500, seed: int = 1) -> list[Figure]:
    with running_signalbox() as (made, upstream):
        report = crashes(made, upstream, rounds, seed)
    if report.faults:
        raise RuntimeError(f"{len(report.faults)} guarantees violated: {report.faults[:5]}")
    return [
        Figure("kill -9 under load", report.kills, "times"),
        Figure("of that while starting", report.kills_during_start, "times"),
        Figure("commands acknowledged", report.acknowledged, ""),
        Figure("commands sent again without an answer", report.unanswered, ""),
        Figure("commands lost or doubled", len(report.faults), "", 0),
        Figure("start after a kill until ready, p50", percentile(report.starts, 0.5), "s"),
        Figure("start after a kill until ready, p99", percentile(report.starts, 0.99), "s"),
    ]
