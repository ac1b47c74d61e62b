"""`kill -9` of any role at random moments under load, on Kafka, many rounds."""

from bench.figure import Figure, percentile
from tests.support.kafka_kill_rounds import crashes
from tests.support.multi_process import multi_process_signalbox


def run(rounds: int = 100, seed: int = 1) -> list[Figure]:
    with multi_process_signalbox(session_timeout_ms=3_000) as (made, upstream):
        made.up()
        report = crashes(made, upstream, rounds, seed)
    if report.faults:
        raise RuntimeError(f"{len(report.faults)} guarantees violated: {report.faults[:5]}")
    return [
        Figure("kill -9 of a role under load", report.kills, "times"),
        Figure("of that, possibly while another one started", report.kills_during_start, "times"),
        Figure("commands acknowledged", report.acknowledged, ""),
        Figure("commands sent again without an answer", report.unanswered, ""),
        Figure("commands lost or doubled", len(report.faults), "", 0),
        Figure("start of a role after a kill until ready, p50", percentile(report.starts, 0.5), "s"),
        Figure("start of a role after a kill until ready, p99", percentile(report.starts, 0.99), "s"),
    ]
