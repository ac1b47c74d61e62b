"""Read models on PostgreSQL: live projection through Faust, its lag, and a rebuild."""

import asyncio
import time
from pathlib import Path

from sqlalchemy import select

from bench.figure import Figure, median, percentile
from bench.kafka.deciding import BATCH, command, opened
from bench.rebuild import envelopes, history
from projections.store import CHECKPOINTS, Store, open_store
from schemas.aggregates.organization import DefineOrganization
from schemas.aggregates.project import DefineProject
from schemas.identity import unix_seconds
from schemas.outcome import Outcome
from signalbox.up import settle
from streams.kafka.log import KafkaLog
from streams.log import Append, Transaction
from streams.projection import ProjectionRunner
from streams.projection.checkpoints import CheckpointWaiter
from tests.support.calls import until
from tests.support.multi_process import MultiProcessSignalbox, multi_process_signalbox

RATE = 500
TICK = 0.02


async def put_history(log: KafkaLog, count: int) -> int:
    """The position of the last event."""
    written = envelopes(history(count))
    for start in range(0, len(written), BATCH):
        await log.commit(Transaction([Append("events", 0, written[start : start + BATCH])]))
    return await log.end("events", 0)


def reached(store: Store) -> int:
    c = CHECKPOINTS.c
    wanted = select(c.position).where(c.read_model == "resources", c.partition == 0)
    with store.reader.begin() as connection:
        return max((position for (position,) in connection.execute(wanted)), default=0)


def live(harness: MultiProcessSignalbox, store: Store, end: int) -> float:
    """Events per second, from the first that the projector applied to the last."""
    harness.start("projector")
    first = until(lambda: reached(store) or None, "the projector begins", 60, 0.01)
    began = time.perf_counter()
    until(lambda: reached(store) >= end, "the projector has caught up", 300, 0.05)
    return (end - first) / (time.perf_counter() - began)


async def lag(harness: MultiProcessSignalbox, log: KafkaLog, store: Store, seconds: float) -> list[float]:
    """Milliseconds from an event's decision until the read model has it, at 500 commands a second."""
    waiter = CheckpointWaiter(log, store)
    running = asyncio.create_task(waiter.run())
    await log.append("commands", [command(DefineOrganization(organization="acme", name="acme"))])
    lags: list[float] = []

    sent, all_sent = 0, False

    async def observe() -> None:
        after = await log.end("outcomes", 0)
        while not all_sent or len(lags) < sent:
            await log.wait("outcomes", 0, after)
            for record in await log.read("outcomes", 0, after, 10_000):
                after = record.position
                outcome = Outcome.of(record.envelope.data)
                await waiter.wait_for("resources", 0, outcome.position)
                lags.append((time.time() - unix_seconds(outcome.decided_at)) * 1000)

    observing = asyncio.create_task(observe())
    began = time.perf_counter()
    while (now := time.perf_counter() - began) < seconds:
        due = max(1, int(now * RATE) - sent)
        names = [f"p-{sent + n}" for n in range(due)]
        sent += due
        await log.append("commands", [command(DefineProject(organization="acme", name=n)) for n in names])
        await asyncio.sleep(TICK)
    all_sent = True
    await log.append("commands", [command(DefineProject(organization="acme", name="the-last"))])
    sent += 1
    async with asyncio.timeout(30):
        await observing
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return lags[RATE:]


async def rebuild(log: KafkaLog, store: Store, events: int) -> float:
    """Events per second, without other load."""
    runner = ProjectionRunner(log, store)
    running = asyncio.create_task(runner.run())
    await runner.wait_for("resources", 0, await log.end("events", 0))
    settle()
    began = time.perf_counter()
    await runner.rebuild("resources")
    seconds = time.perf_counter() - began
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return events / seconds


async def measured(harness: MultiProcessSignalbox, count: int) -> list[Figure]:
    store = open_store(harness.environment["SIGNALBOX_POSTGRES"])
    try:
        async with opened(harness) as log:
            end = await put_history(log, count)
            rate = await asyncio.to_thread(live, harness, store, end)
            harness.processes["projector"].end()
            again = await rebuild(log, store, count)
        return [
            Figure(
                f"live projection through Faust → PostgreSQL, {count:,} events", rate, "/s", 4_000, most=False
            ),
            Figure(
                f"rebuild of a read model into PostgreSQL, {count:,} events", again, "/s", 30_000, most=False
            ),
        ]
    finally:
        store.close()


async def measured_lag(harness: MultiProcessSignalbox, seconds: float) -> list[Figure]:
    store = open_store(harness.environment["SIGNALBOX_POSTGRES"])
    try:
        async with opened(harness) as log:
            for role in ("decider", "projector"):
                harness.start(role).until_ready()
            lags = await lag(harness, log, store, seconds)
    finally:
        store.close()
    return [
        Figure(f"lag of the read model at {RATE} commands/s, p50", median(lags), "ms"),
        Figure(f"lag of the read model at {RATE} commands/s, p99", percentile(lags, 0.99), "ms", 150),
    ]


def run(count: int = 100_000, seconds: float = 20.0) -> list[Figure]:
    with multi_process_signalbox() as (harness, _):
        harness.serve()
        Path(harness.data / "secrets").mkdir(exist_ok=True)
        figures = asyncio.run(measured(harness, count))
    with multi_process_signalbox() as (harness, _):
        harness.serve()
        return [*figures, *asyncio.run(measured_lag(harness, seconds))]
