"""`kill -9` of any role at random moments under load, on Kafka: what was accepted is in the events once."""

import asyncio
import random
import signal
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.crash import (
    Caller,
    Register,
    Report,
    Sent,
    acknowledged,
    check,
    check_gateway,
    check_whole,
    compared,
)
from bench.figure import Figure, percentile
from projections.store import open_store
from schemas.outcome import NON_CONSUMING_RULES, Outcome
from signalbox.devservers.postgres import DevPostgres
from signalbox.roles import ROLES
from signalbox.roles.projector import MODELS
from streams.chain import verify
from streams.kafka.log import KafkaLog
from tests.support.calls import Calls, until
from tests.support.multi_process import MultiProcessSignalbox, multi_process_signalbox
from tests.support.running_signalbox import RunningSignalbox

CALLERS = 3
LONGEST_PAUSE = 0.5
"""Seconds between two kills, at most, beside what a start takes."""
WAIT = 2
"""Seconds a caller waits for an outcome."""
LEAST_LOAD = 60
"""Commands that are answered before the callers stop."""
PAUSE = 0.05
"""Seconds until a caller sends again what was not answered."""


@dataclass(slots=True)
class Persistent(Caller):
    """Sends each command until it is answered, as a client would: under the same id."""

    stopped: threading.Event = field(default_factory=threading.Event)
    again: int = 0

    def run(self, harness: RunningSignalbox) -> None:
        calls = harness.calls()
        while not self.stopped.is_set():
            one = self.next()
            one.seconds = WAIT
            self.sent.append(one)
            while not self._answered(one, calls, harness) and not self.stopped.wait(PAUSE):
                self.again += 1
        calls.close()

    def _answered(self, one: Sent, calls: Calls, harness: RunningSignalbox) -> bool:
        try:
            reply = one.send(calls, wait=one.wait)
        except OSError:
            return False
        if reply.status in (200, 201, 202):
            one.answer = reply
            return True
        if reply.status == 503 or (reply.status == 409 and reply.json["type"].endswith("/still-running")):
            return False
        said = harness.errors() if reply.status == 500 else ""
        self.unexpected.append(f"{one.kind} {one.key}: {reply} {said}")
        return True


Hurt = Callable[[MultiProcessSignalbox, random.Random, Report], None]
"""What is done to a harness while callers go on."""


def unharmed(
    harness: MultiProcessSignalbox, upstream: str, hurt: Hurt, seed: int = 1, *, rejected: float = 0.0
) -> Report:
    """The findings after faults under load; the roles are down afterwards. `rejected` is
    the share of revisions that Envoy rejects."""
    moments = random.Random(seed)
    callers = [
        Persistent(n, upstream, random.Random(f"{seed}-{n}"), rejected=rejected) for n in range(CALLERS)
    ]
    threads = [threading.Thread(target=caller.run, args=(harness,)) for caller in callers]
    report, register = Report(), Register()
    for caller in callers:
        caller.prefix = f"{seed}-"
    for thread in threads:
        thread.start()
    try:
        hurt(harness, moments, report)
        harness.until_ready()
        until(lambda: acknowledged(callers) >= LEAST_LOAD, f"{LEAST_LOAD} commands are answered")
    finally:
        for caller in callers:
            caller.stopped.set()
        for thread in threads:
            thread.join()
    harness.until_ready()
    report.unanswered = sum(caller.again for caller in callers)
    check(harness, callers, report, register, moments)
    harness.until_quiet()
    check_gateway(harness, callers, report)
    if rejected:
        harness.renew_proxies()
        check_gateway(harness, callers, report)
    check_whole(harness, register, report)
    harness.down()
    keys = [one.key for caller in callers for one in caller.sent]
    report.faults += asyncio.run(_check_log(harness, keys, report.events))
    report.faults += [fault for caller in callers for fault in caller.unexpected]
    report.acknowledged = acknowledged(callers)
    return report


def crashes(
    harness: MultiProcessSignalbox,
    upstream: str,
    rounds: int,
    seed: int = 1,
    roles: Sequence[str] = tuple(ROLES),
    *,
    rejected: float = 0.0,
) -> Report:
    """Kills `rounds` processes of a harness that is up, whichever, while callers go on."""

    def hurt(harness: MultiProcessSignalbox, moments: random.Random, report: Report) -> None:
        for number in range(rounds):
            time.sleep(moments.uniform(0.0, LONGEST_PAUSE))
            # Each of them at some time, in an order that nobody chose.
            role = roles[number] if number < len(roles) else moments.choice(roles)
            process = harness.processes[role]
            process.end(signal.SIGKILL)
            report.kills += 1
            harness.start(role)
            if moments.random() < 0.5:
                began = time.perf_counter()
                process.until_ready()
                report.starts.append(time.perf_counter() - began)
            else:
                report.kills_during_start += 1  # the next kill may fall while this one starts

    return unharmed(harness, upstream, hurt, seed, rejected=rejected)


async def _check_log(harness: MultiProcessSignalbox, keys: Sequence[str], events: int) -> list[str]:
    """The chain holds, every outcome was sent, and the read models are what a rebuild makes."""
    faults: list[str] = []
    with tempfile.TemporaryDirectory(prefix="signalbox-rebuilt-") as work:
        log = await KafkaLog.open(harness.kafka_settings, Path(work, "index"))
        try:
            reports = [await verify(log, p) for p in range(log.partitions)]
            faults += [f"the chain breaks: {r.broken}" for r in reports if r.broken is not None]
            if sum(r.events for r in reports) < events:
                faults.append(f"{sum(r.events for r in reports)} events, there were {events}")
            outcomes = await _outcomes(log)
            faults += [f"no outcome was sent for {key}" for key in keys if not outcomes[key]]
            faults += [f"{len(said)} decisions of {id}" for id, said in outcomes.items() if len(said) > 1]
            fresh = DevPostgres(Path(work, "postgres"))
            stores = [open_store(harness.environment["SIGNALBOX_POSTGRES"]), open_store(fresh.start())]
            try:
                faults += await compared(log, stores, MODELS)
            finally:
                for store in stores:
                    store.close()
                fresh.stop()
        finally:
            await log.close()
    return faults


async def _outcomes(log: KafkaLog) -> dict[str, set[Outcome]]:
    """What was decided of each command: it may be said again, but not otherwise."""
    found: dict[str, set[Outcome]] = defaultdict(set)
    for partition in range(log.partitions):
        after = 0
        while records := await log.read("outcomes", partition, after, 1000):
            after = records[-1].position
            for outcome in (Outcome.of(record.envelope.data) for record in records):
                if outcome.rule not in NON_CONSUMING_RULES:
                    found[outcome.name].add(outcome)
    return found


def run(rounds: int = 100, seed: int = 1) -> list[Figure]:
    with multi_process_signalbox(session_timeout_ms=3_000) as (made, upstream):
        made.up()
        report = crashes(made, upstream, rounds, seed)
    if report.faults:
        raise RuntimeError(f"{len(report.faults)} promises broken: {report.faults[:5]}")
    return [
        Figure("kill -9 of a role under load", report.kills, "times"),
        Figure("of that, possibly while another one started", report.kills_during_start, "times"),
        Figure("commands acknowledged", report.acknowledged, ""),
        Figure("commands sent again after nobody answered", report.unanswered, ""),
        Figure("commands lost or doubled", len(report.faults), "", 0),
        Figure("start of a role after a kill until ready, p50", percentile(report.starts, 0.5), "s"),
        Figure("start of a role after a kill until ready, p99", percentile(report.starts, 0.99), "s"),
    ]
