"""Latency of a change through separate processes: HTTP, decider, gateway sync, xDS, Envoy."""

from bench.change import existing, fresh
from bench.figure import Figure, median, percentile
from tests.support.multi_process import MultiProcessSignalbox, multi_process_signalbox

ROUNDS = 200
APIS = 10_000


def run(apis: int = APIS, rounds: int = ROUNDS) -> list[Figure]:
    with multi_process_signalbox() as (made, upstream):
        made.up()
        made.load([f"api-{i}" for i in range(apis)], upstream)
        made.until_quiet()
        times = existing(made, upstream, f"api-{apis // 2}", rounds)
        new = fresh(made, upstream, rounds // 4)
        return [*_figures(apis, times, new), *starts(made, apis)]


def _figures(apis: int, times: list[tuple[float, float]], new: list[tuple[float, float]]) -> list[Figure]:
    sent, accepted = [s for s, _ in times], [a for _, a in times]
    label = f"HTTP command → answered by Envoy, {apis:,} live"
    return [
        Figure(f"{label}, p50", median(accepted), "ms", 12),
        Figure(f"{label}, p99", percentile(accepted, 0.99), "ms", 35),
        Figure(f"{label}, from sending it, p50", median(sent), "ms"),
        Figure(f"{label}, from sending it, p99", percentile(sent, 0.99), "ms"),
        Figure(f"new API at {apis:,}, p50", median([a for _, a in new]), "ms"),
    ]


def starts(made: MultiProcessSignalbox, apis: int) -> list[Figure]:
    """Starts a second xDS server: the time until it has loaded the config topic and is ready."""
    server = made.start("xds", "xds-2")
    seconds = server.began_until_ready()
    figures = [
        Figure(f"xDS server, start to ready, {apis:,} APIs", seconds, "s", 0.8),
        Figure(f"memory of an xDS server with {apis:,} APIs", server.memory, "MB", 250),
    ]
    server.end()
    return [
        *figures,
        *(
            Figure(f"memory of role {role} with {apis:,} APIs", made.processes[role].memory, "MB")
            for role in ("api", "decider", "gateway-sync", "projector")
        ),
    ]
