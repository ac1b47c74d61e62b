"""`kill -9` at random moments under load: each acknowledged command was decided exactly once."""

import asyncio
import contextlib
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import MetaData, Table, inspect, select

from projections.catalog import READ_MODELS
from projections.store import Store, live, open_store
from schemas.identity import uuid7
from streams.decider.chain import verify
from streams.log import Log
from streams.projection import ProjectionRunner
from streams.sqlite.log import SqliteLog
from tests.support.calls import CLOUDEVENT, Calls, Reply, event, specification, until
from tests.support.rejected import rejected_by_envoy
from tests.support.running_signalbox import RunningSignalbox

CALLERS = 4
LONGEST_LOAD = 0.6
"""Seconds of load before a kill, at most; on a slow machine until `LEAST_LOAD` commands were answered."""

LEAST_LOAD = 15

DURING_START = 0.45
"""The share of rounds in which the process is killed while it starts."""

WITH_ENVOY = 8
"""Signalbox supervises Envoy in one of this many rounds; in the others Envoy just stays connected."""

FROM_THE_FIRST_SECOND = {"resources", "operations", "deliveries"}
"""Read models with rows after the shortest run; the messages of the others are published on timers."""


@dataclass(slots=True)
class Sent:
    """A command as it was sent, and its answer, if any."""

    key: str
    kind: str
    method: str
    path: str
    body: Any
    headers: dict[str, str]
    wait: bool
    answer: Reply | None = None
    seconds: int = 30

    def send(self, calls: Calls, *, wait: bool) -> Reply:
        prefer = {"prefer": f"wait={self.seconds}"} if wait else {}
        return calls.ask(self.method, self.path, self.body, **self.headers, **prefer)

    def same(self, again: Reply) -> bool:
        """Whether a repetition got the same answer as the first request."""
        if self.answer is None or again.status not in (200, 201):
            return again.status in (200, 201)
        first, second = self.answer.json, again.json
        if self.answer.status == 202:
            return (
                first["id"] == second["id"]
                if self.kind == "api"
                else first["subject"].endswith(second["name"])
            )
        if self.kind == "deploy":
            return first["name"] == second["name"]  # another deployment may have superseded it
        return (self.answer.status, first) == (again.status, second)


@dataclass(slots=True)
class Caller:
    """Sends commands one after the other until there is no answer. It has its own APIs."""

    number: int
    upstream: str
    moments: random.Random
    sent: list[Sent] = field(default_factory=list[Sent])
    unexpected: list[str] = field(default_factory=list[str])
    revisions: int = 0
    deployed: int = 0
    prefix: str = ""
    rejected: float = 0.0
    """The share of revisions that Envoy rejects."""
    bad: set[int] = field(default_factory=set[int])
    """Those revisions."""
    good: int = 0
    """The revision that was deployed last and is not among them."""

    @property
    def api(self) -> str:
        return f"crash-{self.prefix}{self.number}"

    def run(self, harness: RunningSignalbox) -> None:
        calls = harness.calls()
        with contextlib.suppress(OSError):
            while True:
                self._step(calls)
        calls.close()

    def _step(self, calls: Calls) -> None:
        one = self.next()
        self.sent.append(one)
        reply = one.send(calls, wait=one.wait)
        one.answer = reply
        if reply.status not in (200, 201, 202):
            self.unexpected.append(f"{one.kind} {one.key}: {reply}")

    def next(self) -> Sent:
        key, kind = uuid7(), self.moments.choice(("project", "project", "api", "deploy"))
        wait = self.moments.random() < 0.7
        if kind == "deploy" and self.deployed < self.revisions:
            self.deployed = self.revisions
            self.good = self.good if self.deployed in self.bad else self.deployed
            body = {"api": self.api, "revision": self.revisions, "gateway": "local"}
            return Sent(key, "deploy", "POST", "/deployments", body, {"idempotency_key": key}, wait)
        if kind == "api":
            self.revisions += 1
            named = {"display_name": f"Number {self.revisions}"}
            spec = specification(f"/{self.api}", self.upstream, **named)
            if self.rejected and self.moments.random() < self.rejected:
                self.bad.add(self.revisions)
                spec = rejected_by_envoy(f"/{self.api}", self.upstream) | named
            body = event("api.command.publish", {"name": self.api, "spec": spec}, key)
            return Sent(key, "api", "POST", "/commands", body, {"content_type": CLOUDEVENT}, wait)
        name = f"p-{key}"
        fields = {"display_name": f"Caller {self.number}"}
        return Sent(key, "project", "PUT", f"/projects/{name}", fields, {"idempotency_key": key}, wait)


@dataclass(slots=True)
class Report:
    """The result of the rounds. `faults` is empty when every guarantee held."""

    kills: int = 0
    kills_during_start: int = 0
    acknowledged: int = 0
    unanswered: int = 0
    repeated: int = 0
    events: int = 0
    starts: list[float] = field(default_factory=list[float])
    faults: list[str] = field(default_factory=list[str])


def crashes(
    harness: RunningSignalbox,
    upstream: str,
    rounds: int,
    seed: int = 1,
    *,
    envoy: bool = True,
    rejected: float = 0.0,
) -> Report:
    """Kills `harness` `rounds` times, and stops it with Envoy afterwards. `rejected` is the share of
    revisions that Envoy rejects."""
    moments, plan = random.Random(seed), random.Random(f"{seed}-plan")
    callers = [Caller(n, upstream, random.Random(f"{seed}-{n}"), rejected=rejected) for n in range(CALLERS)]
    report = Report()
    observed = ObservedEvents()
    for number in range(rounds):
        options = () if envoy and number % WITH_ENVOY == 0 else ("--no-envoy",)
        if number and plan.random() < DURING_START:
            harness.begin(*options)
            time.sleep(moments.uniform(0.2, max(report.starts, default=2.0)))
            report.kills_during_start += 1
        else:
            report.starts.append(harness.up(*options))
            check(harness, callers, report, observed, moments)
            _load(harness, callers, moments.uniform(0.0, LONGEST_LOAD))
        harness.down(signal.SIGKILL)
        report.kills += 1
    report.starts.append(harness.up(*(() if envoy else ("--no-envoy",))))
    check(harness, callers, report, observed, moments)
    if envoy:
        check_gateway(harness, callers, report)
        if rejected:
            harness.renew_proxies()
            check_gateway(harness, callers, report)
    check_whole(harness, observed, report)
    harness.down(signal.SIGKILL)
    report.faults += asyncio.run(_check_closed(harness.data, report.events))
    report.faults += [fault for caller in callers for fault in caller.unexpected]
    report.acknowledged = acknowledged(callers)
    harness.raze()
    return report


def acknowledged(callers: Sequence[Caller]) -> int:
    """The number of answered commands."""
    return sum(1 for caller in callers for one in caller.sent if one.answer is not None)


def _load(harness: RunningSignalbox, callers: list[Caller], seconds: float) -> None:
    before = acknowledged(callers)
    threads = [threading.Thread(target=caller.run, args=(harness,)) for caller in callers]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    until(lambda: acknowledged(callers) >= before + LEAST_LOAD, f"{LEAST_LOAD} commands are answered")
    assert harness.process is not None
    harness.process.kill()
    for thread in threads:
        thread.join()


@dataclass(slots=True)
class ObservedEvents:
    """The events that were read so far."""

    after: int = 0
    ids: list[str] = field(default_factory=list[str])
    causes: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])

    def read(self, calls: Calls) -> None:
        events, self.after = calls.events_on(self.after)
        for one in events:
            self.ids.append(one["id"])
            label = f"{one['type']} {one['subject']}"
            self.causes.setdefault(one.get("causationid", ""), Counter())[label] += 1


def check(
    harness: RunningSignalbox,
    callers: Sequence[Caller],
    report: Report,
    observed: ObservedEvents,
    moments: random.Random,
) -> None:
    """Checks that every command was decided once, with or without an answer to its first sender."""
    calls = harness.calls()
    done = [one for caller in callers for one in caller.sent]
    for one in done:
        if one.answer is None:
            report.unanswered += 1
            one.answer = until(lambda one=one: _repeated(one, calls), f"{one.key} is decided")
            if one.answer.status not in (200, 201):
                report.faults.append(f"{one.kind} {one.key} sent again: {one.answer}")
    for one in moments.sample(done, min(len(done), 20)):
        again = until(lambda one=one: _repeated(one, calls), f"{one.key} is decided")
        report.repeated += 1
        if not one.same(again):
            report.faults.append(f"{one.kind} {one.key}: first {one.answer}, then {again}")
    observed.read(calls)
    for one in done:
        events = observed.causes.get(one.key)
        if not events:
            report.faults.append(f"{one.kind} {one.key} was answered {one.answer}, and has no event")
        elif any(count != 1 for count in events.values()):
            report.faults.append(f"{one.kind} {one.key} was decided more than once: {dict(events)}")
    calls.close()


def _repeated(one: Sent, calls: Calls) -> Reply | None:
    """The answer to a repetition of the command; None while the first request is still processed, and
    while the log cannot be reached."""
    reply = one.send(calls, wait=True)
    running = reply.status == 409 and reply.json["type"].endswith("/still-running")
    return None if running or reply.status in (202, 503) else reply


def check_gateway(harness: RunningSignalbox, callers: Sequence[Caller], report: Report) -> None:
    """Checks that Envoy serves the last deployed revisions and acknowledged all deployments in force; those
    that Envoy rejects must be refused, with the last good revision served."""
    calls = harness.calls()
    theirs = {caller.api for caller in callers}
    active = [i for i in calls.all("deployments") if i["state"] == "active" and i["api"] in theirs]
    bad = {(caller.api, revision) for caller in callers for revision in caller.bad}
    for item in active:
        name = item["name"]
        wanted = ("refused",) if (item["api"], item["revision"]) in bad else ("acknowledged", "serving")
        try:
            until(lambda name=name, wanted=wanted: calls.status(name)["state"] in wanted, name)
        except TimeoutError:
            report.faults.append(f"deployment {name} stays {calls.status(name)}")
    newest = {item["api"]: item["revision"] for item in active}
    for caller in callers:
        if caller.deployed and newest.get(caller.api) != caller.deployed:
            report.faults.append(
                f"{caller.api}: {newest.get(caller.api)} runs, {caller.deployed} was deployed"
            )
    newest |= {caller.api: caller.good for caller in callers if caller.bad and caller.deployed}
    for api, revision in newest.items():
        if not revision:
            continue  # no valid revision was deployed
        try:
            harness.answered(f"/{api}/items", f"{api}@{revision}")
        except TimeoutError as error:
            report.faults.append(str(error))
    calls.close()


def check_whole(harness: RunningSignalbox, observed: ObservedEvents, report: Report) -> None:
    """Checks that the event log, read from its first event, equals the events read before."""
    calls = harness.calls()
    ids = [one["id"] for one in calls.events()]
    calls.close()
    report.events = len(ids)
    if ids[: len(observed.ids)] != observed.ids:
        report.faults.append("the event log differs when it is read again")
    if len(set(ids)) != len(ids):
        report.faults.append("an event's id occurs twice")


async def _check_closed(data: Path, events: int) -> list[str]:
    """Checks that the hash chain is intact, and the read models equal a rebuild from the log."""
    faults: list[str] = []
    log = await SqliteLog.open(data)
    try:
        chain = await verify(log, 0)
        if chain.broken is not None:
            faults.append(f"the chain breaks: {chain.broken}")
        if chain.events < events:
            faults.append(f"{chain.events} events, there were {events}")
        with tempfile.TemporaryDirectory(prefix="signalbox-rebuilt-") as work:
            stores = [open_store(file) for file in (data / "readmodels.db", Path(work, "new.db"))]
            faults += await compared(log, stores)
            for store in stores:
                store.close()
    finally:
        await log.close()
    return faults


async def compared(log: Log, stores: Sequence[Store]) -> list[str]:
    """The differences of the read models of the first store from those of the second, a new one."""
    contents = [await _projected(log, store) for store in stores]
    filled = {table.partition(".")[0] for table, rows in contents[1].items() if rows}
    faults = [f"{name} is empty: nothing was compared" for name in sorted(FROM_THE_FIRST_SECOND - filled)]
    for table in sorted(contents[0].keys() | contents[1].keys()):
        kept, rebuilt = (c.get(table, set[str]()) for c in contents)
        if kept != rebuilt:
            some = sorted(kept ^ rebuilt)[:3]
            faults.append(f"{table}: {len(kept)} rows, rebuilt {len(rebuilt)}; {some}")
    return faults


async def _projected(log: Log, store: Store) -> dict[str, set[str]]:
    """The rows of all read models, by table, after they have applied the whole log."""
    runner = ProjectionRunner(log, store, READ_MODELS)
    running = asyncio.create_task(runner.run())
    ready = asyncio.create_task(runner.ready.wait())
    await asyncio.wait([running, ready], return_when=asyncio.FIRST_COMPLETED)
    running.cancel()
    (ended,) = await asyncio.gather(running, return_exceptions=True)
    if not ready.done():
        raise RuntimeError(f"the read models cannot be projected: {ended!r}")
    return _rows(store)


def _rows(store: Store) -> dict[str, set[str]]:
    contents: dict[str, set[str]] = {}
    with store.reader.connect() as connection:
        prefixes = {f"{g.prefix}_": name for name, g in live(connection).items()}
        for name in inspect(connection).get_table_names():
            for prefix, model in prefixes.items():
                if name.startswith(prefix):
                    table = Table(name, MetaData(), autoload_with=connection)
                    rows = connection.execute(select(table))
                    contents[f"{model}.{name.removeprefix(prefix)}"] = {str(tuple(row)) for row in rows}
    return contents
