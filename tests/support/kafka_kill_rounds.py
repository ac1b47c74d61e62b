"""`kill -9` of any role at random moments under load, on Kafka: each accepted command has its events once."""

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

from projections.store import open_store
from schemas.outcome import NON_CONSUMING_RULES, Outcome
from signalbox.devservers.postgres.server import DevPostgres
from signalbox.roles import ROLES
from streams.decider.chain import verify
from streams.kafka.log import KafkaLog
from tests.support.calls import Calls, until
from tests.support.kill_rounds import (
    Caller,
    ObservedEvents,
    Report,
    Sent,
    acknowledged,
    check,
    check_gateway,
    check_whole,
    compared,
)
from tests.support.multi_process import MultiProcessSignalbox
from tests.support.running_signalbox import RunningSignalbox

CALLERS = 3
LONGEST_PAUSE = 0.5
"""Seconds between two kills, at most, in addition to the time of a start."""
WAIT = 2
"""Seconds a caller waits for an outcome."""
LEAST_LOAD = 60
"""Commands that are answered before the callers stop."""
PAUSE = 0.05
"""Seconds until a caller repeats an unanswered command."""


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
        output = harness.errors() if reply.status == 500 else ""
        self.unexpected.append(f"{one.kind} {one.key}: {reply} {output}")
        return True


Hurt = Callable[[MultiProcessSignalbox, random.Random, Report], None]
"""A fault of a harness, injected while callers continue."""


def unharmed(
    harness: MultiProcessSignalbox, upstream: str, hurt: Hurt, seed: int = 1, *, rejected: float = 0.0
) -> Report:
    """The findings after faults under load; stops the roles afterwards. `rejected` is the share of
    revisions that Envoy rejects."""
    moments = random.Random(seed)
    callers = [
        Persistent(n, upstream, random.Random(f"{seed}-{n}"), rejected=rejected) for n in range(CALLERS)
    ]
    threads = [threading.Thread(target=caller.run, args=(harness,)) for caller in callers]
    report, observed = Report(), ObservedEvents()
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
    check(harness, callers, report, observed, moments)
    harness.until_quiet()
    check_gateway(harness, callers, report)
    if rejected:
        harness.renew_proxies()
        check_gateway(harness, callers, report)
    check_whole(harness, observed, report)
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
    """Kills `rounds` random processes of a running harness, while callers continue."""

    def hurt(harness: MultiProcessSignalbox, moments: random.Random, report: Report) -> None:
        for number in range(rounds):
            time.sleep(moments.uniform(0.0, LONGEST_PAUSE))
            # Each role once, then random ones.
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
    """Checks the hash chain, that every command has an outcome, and that the read models equal a rebuild."""
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
            faults += [
                f"{len(decided)} decisions of {id}" for id, decided in outcomes.items() if len(decided) > 1
            ]
            fresh = DevPostgres(Path(work, "postgres"))
            stores = [open_store(harness.environment["SIGNALBOX_POSTGRES"]), open_store(fresh.start())]
            try:
                faults += await compared(log, stores)
            finally:
                for store in stores:
                    store.close()
                fresh.stop()
        finally:
            await log.close()
    return faults


async def _outcomes(log: KafkaLog) -> dict[str, set[Outcome]]:
    """The distinct outcomes of each command: repetitions must be equal."""
    found: dict[str, set[Outcome]] = defaultdict(set)
    for partition in range(log.partitions):
        after = 0
        while records := await log.read("outcomes", partition, after, 1000):
            after = records[-1].position
            for outcome in (Outcome.of(record.envelope.data) for record in records):
                if outcome.rule not in NON_CONSUMING_RULES:
                    found[outcome.name].add(outcome)
    return found
