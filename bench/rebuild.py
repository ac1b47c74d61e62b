"""A rebuild of a read model from the log."""

import asyncio
import tempfile
import time
from pathlib import Path

from bench.figure import Figure
from bench.translate import specification
from projections.store import open_store
from schemas.aggregates.api import ApiPublished, content_digest
from schemas.aggregates.deployment import DeploymentStarted
from schemas.aggregates.organization import OrganizationDefined
from schemas.envelope import Envelope
from schemas.envelopes import envelope_for
from schemas.identity import timestamp, uuid7
from schemas.message import Event
from signalbox.up import settle
from streams.decider.head import ChainHead
from streams.log import Append, Transaction
from streams.projection import ProjectionRunner
from streams.sqlite.log import SqliteLog

APIS = 10_000


def history(count: int) -> list[Event]:
    """Publishes and deploys APIs alternately, with increasing revisions."""
    events: list[Event] = [OrganizationDefined(organization="acme", name="acme")]
    for i in range(count // 2):
        name, revision = f"api-{i % APIS}", i // APIS + 1
        spec = specification(name, 9000 + revision)
        events.append(
            ApiPublished(
                organization="acme",
                name=name,
                project="default",
                revision=revision,
                digest=content_digest(spec),
                spec=spec,
            )
        )
        events.append(
            DeploymentStarted(
                organization="acme",
                name=uuid7(),
                api=name,
                revision=revision,
                gateways=("local",),
                context=f"/{name}",
                hosts=("*",),
                requested_at=timestamp(),
            )
        )
    return events


def envelopes(events: list[Event]) -> list[Envelope]:
    head = ChainHead()
    chained: list[Envelope] = []
    for event in events:
        plural = "apis" if event.aggregate == "api" else f"{event.aggregate}s"
        envelope = head.chain(
            envelope_for(event, source="/bench", subject=f"organizations/acme/{plural}/{event.name}")
        )
        head = head.after(envelope, head.position + 1)
        chained.append(envelope)
    return chained


async def rebuild(count: int) -> float:
    """Events per second."""
    with tempfile.TemporaryDirectory(prefix="signalbox-bench-") as work:
        log = await SqliteLog.open(Path(work))
        written = envelopes(history(count))
        for start in range(0, len(written), 1000):
            await log.commit(Transaction([Append("events", 0, written[start : start + 1000])]))
        total = len(written)
        del written
        store = open_store(Path(work) / "readmodels.db")
        runner = ProjectionRunner(log, store)
        running = asyncio.create_task(runner.run())
        await runner.wait_for("resources", 0, total)
        settle()
        began = time.perf_counter()
        await runner.rebuild("resources")
        seconds = time.perf_counter() - began
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        store.close()
        await log.close()
        return total / seconds


def run(count: int = 100_000) -> list[Figure]:
    rate = asyncio.run(rebuild(count))
    return [
        Figure(f"rebuild of the read model of resources, {count:,} events", rate, "/s", 60_000, most=False)
    ]
