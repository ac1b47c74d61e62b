"""100,000 APIs: loading them by `apply`, memory, the latency of a change, and a start after `kill -9`."""

from bench.change import existing, fresh
from bench.figure import Figure, median, percentile
from bench.folder import apply, definitions
from bench.start import killed_and_changed
from tests.support.running_signalbox import resident, running_signalbox

APIS = 100_000
ROUNDS = 200
SECONDS = 900.0
"""The longest wait of each step."""


def run(count: int = APIS) -> list[Figure]:
    with running_signalbox() as (made, upstream):
        made.up()
        at = f"{count:,} APIs"
        seconds = apply(made, definitions(made, upstream, count))
        figures = [
            Figure(f"apply of {count:,} definitions until all are acknowledged", seconds, "s", 240),
            Figure(f"memory of the server after that, {at}", made.memory(), "MB"),
            Figure(f"memory of Envoy, {at}", resident(made.envoy()), "MB"),
        ]
        made.until_quiet(SECONDS)
        name = f"api-{count // 2}"
        sent, accepted = zip(*existing(made, upstream, name, ROUNDS), strict=True)
        new = [answered for _, answered in fresh(made, upstream, ROUNDS // 4)]
        label = f"change of an API, {count:,} live"
        figures += [
            Figure(f"{label}: sent → answered, p50", median(sent), "ms", 10),
            Figure(f"{label}: sent → answered, p99", percentile(sent, 0.99), "ms"),
            Figure(f"{label}: accepted → answered, p50", median(accepted), "ms"),
            Figure(f"new API at {count:,}: accepted → answered, p50", median(new), "ms"),
        ]
        ready, answered = killed_and_changed(made, upstream, name, SECONDS)
        return [
            *figures,
            Figure(f"kill -9, start, ready, {at}", ready, "s"),
            Figure(f"kill -9, start, first new change answered, {at}", answered, "s"),
            Figure(f"memory of the server after a start, {at}", made.memory(), "MB"),
        ]
