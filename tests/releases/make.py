"""Makes the kept data of this release: `python -m tests.releases.make DIRECTORY`.

Writes a data directory of the embedded engine (`data-directory.tar.xz`), all topics of a Signalbox on Kafka
(`topics.json.xz`) with its secrets (`secrets.tar.xz`), and the answers of the HTTP API for both
(`embedded.json`, `kafka.json`). It starts Envoy, Kafka and PostgreSQL.
"""

import asyncio
import json
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from schemas.envelope import Envelope
from schemas.identity import timestamp
from streams.kafka.settings import KafkaSettings
from streams.sqlite.log import SqliteLog
from tests.releases.content import answers, fill, parked
from tests.releases.topics import produce_unreadable, read_topics, save
from tests.support.calls import until
from tests.support.multi_process import MultiProcessSignalbox
from tests.support.running_signalbox import RunningSignalbox, upstream

PREFIX = "kept"
PARKED = Envelope(
    id="no name",
    type="io.signalbox.api.command.publish.v1",
    source="/releases",
    subject="organizations/default/apis/orders",
    time="2026-11-20T10:00:00.000000Z",
    partitionkey="default",
    data={},
)
"""A command with an id that no outcome can name: the decider puts it on the dead-letter topic."""


@dataclass
class Kept(MultiProcessSignalbox):
    """On topics with the prefix of kept topics."""

    @property
    def kafka_settings(self) -> KafkaSettings:
        return replace(super().kafka_settings, prefix=PREFIX)


def embedded(work: Path, target: Path, url: str) -> None:
    harness = RunningSignalbox(work / "data")
    try:
        harness.up()
        calls = harness.calls()
        fill(calls, url)
        calls.close()
        harness.until_quiet()
        assert harness.down() == 0
        asyncio.run(_append(harness.data))
        harness.up("--no-envoy")
        until(lambda: parked(harness), "the command is on the dead-letter topic")
        harness.until_quiet()
        _record(harness, target / "embedded.json")
        assert harness.down() == 0
    finally:
        harness.raze()
    _pack(target / "data-directory.tar.xz", harness.data, sorted(_kept(harness.data)))


def _kept(directory: Path) -> Iterator[Path]:
    """All files but those of Envoy, and the locks."""
    for path in directory.rglob("*"):
        name = path.relative_to(directory)
        if path.is_file() and name.parts[0] not in ("envoy", "lock"):
            yield name


async def _append(directory: Path) -> None:
    log = await SqliteLog.open(directory)
    await log.append("commands", [PARKED])
    await log.close()


def kafka(work: Path, target: Path, url: str) -> None:
    harness = Kept(work / "kafka")
    try:
        harness.up()
        calls = harness.calls()
        fill(calls, url)
        calls.close()
        produce_unreadable(harness.kafka_settings)
        until(lambda: parked(harness), "the command is on the dead-letter topic")
        harness.until_quiet()
        _record(harness, target / "kafka.json")
        assert harness.down() == 0
        save(asyncio.run(read_topics(harness.kafka_settings)), target / "topics.json.xz")
        secrets = harness.data / "secrets"
        _pack(target / "secrets.tar.xz", secrets, sorted(p.relative_to(secrets) for p in secrets.iterdir()))
    finally:
        harness.raze()


def _record(harness: RunningSignalbox, file: Path) -> None:
    at = timestamp()
    value = {"at": at, "answers": answers(harness, at), "parked": parked(harness)}
    file.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def _pack(file: Path, directory: Path, names: Sequence[Path]) -> None:
    with tarfile.open(file, "w:xz") as packed:
        for name in names:
            packed.add(directory / name, arcname=str(name))


def main() -> None:
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="signalbox-kept-") as work, upstream() as url:
        embedded(Path(work), target, url)
        kafka(Path(work), target, url)


if __name__ == "__main__":
    main()
