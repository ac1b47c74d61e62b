"""Deciding on Kafka: latency of a command, commands per second, and start time of a decider."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.figure import Figure, median, percentile
from schemas.aggregates.organization import DefineOrganization
from schemas.aggregates.project import DefineProject
from schemas.envelope import Envelope
from schemas.envelopes import envelope_for
from streams.decider.decider import Decider
from streams.decider.snapshots import OWNER
from streams.kafka.log import KafkaLog
from streams.kafka.security.authority import open_authority
from streams.log import Record
from tests.support.multi_process import (
    MultiProcessSignalbox,
    RoleProcess,
    cpu_seconds,
    multi_process_signalbox,
)

BATCH = 1_000


def command(made: DefineOrganization | DefineProject) -> Envelope:
    subject = f"organizations/{made.organization}"
    return envelope_for(made, source="/bench", subject=subject, authtype="user", authid="bench")


def organizations(log: KafkaLog) -> list[str]:
    """One for each partition."""
    names: dict[int, str] = {}
    for number in range(10_000):
        names.setdefault(log.partition_of(f"org-{number}"), f"org-{number}")
        if len(names) == log.partitions:
            break
    return list(names.values())


@asynccontextmanager
async def opened(harness: MultiProcessSignalbox) -> AsyncIterator[KafkaLog]:
    """The harness's log, for a process that is authorized for all commands."""
    secrets = harness.data / "secrets"
    secrets.mkdir(exist_ok=True)
    authority = open_authority(secrets / "signing.jwk", secrets / "trusted.jwks")
    with tempfile.TemporaryDirectory(prefix="signalbox-bench-") as work:
        log = await KafkaLog.open(harness.kafka_settings, Path(work), authority=authority)
        try:
            yield log
        finally:
            await log.close()


async def one_at_a_time(harness: MultiProcessSignalbox, count: int = 500) -> list[float]:
    """Milliseconds from sending a command to receiving its outcome."""
    times: list[float] = []
    async with opened(harness) as log:
        await log.append("commands", [command(DefineOrganization(organization="acme", name="acme"))])
        at = await _outcome(log, 0)
        for number in range(count):
            asked = command(DefineProject(organization="acme", name=f"p-{number}"))
            began = time.perf_counter()
            await log.append("commands", [asked])
            await log.wait("outcomes", 0, at)
            times.append((time.perf_counter() - began) * 1000)
            at = await _outcome(log, at)
    return times


async def _outcome(log: KafkaLog, after: int) -> int:
    """The position of the next outcome."""
    await log.wait("outcomes", 0, after)
    return (await log.read("outcomes", 0, after, 1))[0].position


async def put_waiting(harness: MultiProcessSignalbox, count: int) -> None:
    """Puts `count` commands on the topic, equally many in each partition."""
    async with opened(harness) as log:
        names = organizations(log)
        await log.append("commands", [command(DefineOrganization(organization=o, name=o)) for o in names])
        for start in range(0, count, BATCH):
            some = [
                command(DefineProject(organization=names[n % len(names)], name=f"p-{n}"))
                for n in range(start, start + BATCH)
            ]
            await log.append("commands", some)


@dataclass(frozen=True, slots=True)
class Saturated:
    """Commands per second, and the shares of a core that broker and deciders take meanwhile."""

    rate: float
    broker: float
    deciders: float


async def decided(harness: MultiProcessSignalbox, count: int, deciders: Sequence[RoleProcess]) -> Saturated:
    """While `count` commands wait."""
    async with opened(harness) as log:
        done, began, first = 0, 0.0, 0
        broker, busy = 0.0, 0.0
        assert harness.kafka.pid is not None
        while done < count:
            # Commands have no gaps, so consumed positions count the decided commands.
            at = [await log.consumed(OWNER, "commands", p) for p in range(log.partitions)]
            done = sum(at)
            if done and not began:
                began, first = time.perf_counter(), done
                broker, busy = cpu_seconds(harness.kafka.pid), sum(d.cpu for d in deciders)
            await asyncio.sleep(0.05)
        seconds = time.perf_counter() - began
        broker = cpu_seconds(harness.kafka.pid) - broker
        busy = sum(d.cpu for d in deciders) - busy
        return Saturated((done - first) / seconds, broker / seconds, busy / seconds)


def saturated(partitions: int, deciders: int, count: int) -> Saturated:
    with multi_process_signalbox(partitions=partitions) as (harness, _):
        harness.serve()
        asyncio.run(put_waiting(harness, count))
        processes = [harness.start("decider", f"decider-{number + 1}") for number in range(deciders)]
        for process in processes:
            process.until_ready()  # each with its assigned partitions
        return asyncio.run(decided(harness, count, processes))


async def long_history(harness: MultiProcessSignalbox, count: int) -> None:
    """Decides `count` commands without the commands topic."""
    async with opened(harness) as log:
        decider = Decider(log, 0, "/bench", lambda done, seconds: None)
        await decider.start()
        asked = [command(DefineOrganization(organization="acme", name="acme"))]
        names = [f"p-{n}" for n in range(10_000)]
        for start in range(0, count, BATCH):
            asked += [
                command(
                    DefineProject(
                        organization="acme", name=names[n % len(names)], display_name=f"{n // len(names)}"
                    )
                )
                for n in range(start, start + BATCH)
            ]
            await _decide(decider, asked)
            asked = []
        await decider.stop()


async def _decide(decider: Decider, asked: Sequence[Envelope]) -> None:
    records = [Record("commands", 0, 0, envelope) for envelope in asked]
    await decider.decide(records, 0)


def start_with(events: int) -> list[Figure]:
    with multi_process_signalbox() as (harness, _):
        harness.serve()
        asyncio.run(long_history(harness, events))
        process = harness.start("decider")
        seconds = process.began_until_ready()
        return [
            Figure(f"decider start with {events:,} events and a snapshot", seconds, "s", 3),
            Figure(f"memory of a decider that knows {events:,} command ids", process.memory, "MB"),
        ]


def run(count: int = 120_000, events: int = 1_000_000) -> list[Figure]:
    with multi_process_signalbox() as (harness, _):
        harness.serve()
        asyncio.run(put_waiting(harness, 0))
        harness.start("decider").until_ready()
        times = asyncio.run(one_at_a_time(harness))
    alone, together = saturated(1, 1, count), saturated(4, 2, count)
    return [
        Figure("command on the topic → outcome on the topic, p50", median(times), "ms", 10),
        Figure("command on the topic → outcome on the topic, p99", percentile(times, 0.99), "ms"),
        Figure("commands decided, 1 partition, saturated", alone.rate, "/s", 10_000, most=False),
        Figure("of that the broker's share", alone.broker * 100, "% of a core"),
        Figure("of that the decider's share", alone.deciders * 100, "% of a core"),
        Figure("commands decided, 4 partitions, 2 processes", together.rate, "/s"),
        Figure("of that the broker's share", together.broker * 100, "% of a core"),
        Figure("of that the deciders' share", together.deciders * 100, "% of a core"),
        *start_with(events),
    ]
