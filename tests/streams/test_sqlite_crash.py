"""The log's process is killed, or its disk is full. Real processes, real limits."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.decider.chain import verify
from streams.log import LogDamaged, LogUnavailable, Record, Topic
from streams.sqlite import SqliteLog
from streams.sqlite.checks.directory import check
from tests.streams.envelopes import envelopes
from tests.streams.faust.hosts import until

WRITER = """
import asyncio, os, sys
from pathlib import Path
from streams.sqlite import SqliteLog
from tests.streams.envelopes import envelope

async def main():
    log = await SqliteLog.open(Path(sys.argv[1]))
    async def work(worker):
        for number in range(1_000_000):
            id = f"{sys.argv[2]}-{worker}-{number}"
            (position,) = await log.append("commands", [envelope(id)])
            os.write(1, f"{position} {id}\\n".encode())
    await asyncio.gather(*(work(worker) for worker in range(16)))

asyncio.run(main())
"""


DECIDER = """
import asyncio, os, sys
from pathlib import Path
from schemas.aggregates.organization import DefineOrganization
from schemas.aggregates.project import DefineProject
from streams.decider.decider import Decider
from streams.sqlite import SqliteLog
from streams.submission.command_port import CommandPort
from tests.streams.decider_cases import envelope

async def main():
    log = await SqliteLog.open(Path(sys.argv[1]))
    port = CommandPort(log)
    decider = Decider(log, 0, "/test", lambda done, _: port.decided(outcome for _, outcome in done))
    decider.source_of_commands = log.command_source
    await decider.start()
    running = asyncio.create_task(decider.run())
    await port.execute([envelope(DefineOrganization(organization="acme", name="acme"))], 60)
    async def work(worker):
        for number in range(1_000_000):
            name = f"{sys.argv[2]}-{worker}-{number}"
            command = envelope(DefineProject(organization="acme", name=name), name)
            ((_, outcome),) = (await port.execute([command], 60)).items()
            os.write(1, f"{outcome.position} {name}\\n".encode())
    await asyncio.gather(running, *(work(worker) for worker in range(16)))

asyncio.run(main())
"""


async def everything(log: SqliteLog, topic: Topic) -> list[Record]:
    records: list[Record] = []
    while more := await log.read(topic, 0, len(records), 1000):
        records += more
    return records


@pytest.mark.chaos
async def test_kill_9_leaves_each_answered_command_with_its_decision(tmp_path: Path):
    answered: dict[int, str] = {}
    moments = random.Random(11)
    for round in range(8):
        lines = 0
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", DECIDER, str(tmp_path), str(round), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        stop_after = moments.randrange(1, 600)
        async for line in process.stdout:
            position, _, name = line.decode().rstrip("\n").partition(" ")
            assert answered.setdefault(int(position), name) == name
            lines += 1
            if lines == stop_after:
                process.kill()
        assert await process.wait() == -signal.SIGKILL
        log = await SqliteLog.open(tmp_path)
        commands = [r.envelope for r in await everything(log, "commands")]
        consumed = await log.consumed("decider", "commands", 0)
        outcomes = [r.envelope for r in await everything(log, "outcomes")]
        events = {r.position: r.envelope for r in await everything(log, "events")}
        report = await verify(log, 0)
        await log.close()
        assert [o.id for o in outcomes] == [c.id for c in commands[:consumed]]
        assert len({c.id for c in commands}) == len(commands)
        assert report.broken is None
        assert all(events[position].data["name"] == name for position, name in answered.items())


@pytest.mark.chaos
async def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path):
    acknowledged: dict[int, str] = {}
    moments = random.Random(7)
    for round in range(5):
        lines = 0
        writer = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, str(tmp_path), str(round), stdout=asyncio.subprocess.PIPE
        )
        assert writer.stdout is not None
        stop_after = moments.randrange(1, 800)
        async for line in writer.stdout:
            position, _, id = line.decode().rstrip("\n").partition(" ")
            assert acknowledged.setdefault(int(position), id) == id
            lines += 1
            if lines == stop_after:
                writer.kill()
        assert await writer.wait() == -signal.SIGKILL
        log = await SqliteLog.open(tmp_path)
        end = await log.end("commands", 0)
        records = await log.read("commands", 0, 0, end)
        await log.close()
        assert [record.position for record in records] == list(range(1, end + 1))
        stored = {record.position: record.envelope.id for record in records}
        assert len(set(stored.values())) == len(stored)
        assert {position: stored.get(position) for position in acknowledged} == acknowledged
    assert len(acknowledged) >= 5


KILLED = """
import asyncio, os, sys
from pathlib import Path
from streams.sqlite import SqliteLog
from tests.streams.envelopes import envelopes

async def main():
    log = await SqliteLog.open(Path(sys.argv[1]))
    for _ in range(30):
        await log.append("commands", envelopes(1))
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""

FRAME = 24 + 4096


@pytest.fixture
async def killed(tmp_path: Path) -> Path:
    """The directory of a log whose process was killed after 30 transactions; all are in the journal."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, str(tmp_path))
    assert await process.wait() == -signal.SIGKILL
    return tmp_path


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 0xFF
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (0, "header of its journal"),
        (20, "header of its journal"),
        (32 + 10, "garbage at frame 1,"),
        (32 + 24 + 100, "garbage at frame 1,"),
        (32 + 40 * FRAME + 1000, "garbage at frame 41,"),
        (32 + 40 * FRAME + 9, "garbage at frame 41,"),
    ],
)
async def test_a_damaged_journal_that_holds_acknowledged_records_is_not_dropped_in_silence(
    killed: Path, at: int, message: str
):
    flip(killed / "log.db-wal", at)
    assert [message in finding.message for finding in check(killed)][:1] == [True]
    for _ in range(2):
        with pytest.raises(LogDamaged, match=message):
            await SqliteLog.open(killed)


def cut_end(file: Path, size: int) -> None:
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size - size)


@pytest.mark.parametrize("size", [1, FRAME - 1])
async def test_a_last_transaction_that_was_cut_off_is_taken_back_whole(killed: Path, size: int):
    cut_end(killed / "log.db-wal", size)
    log = await SqliteLog.open(killed)
    assert await log.end("commands", 0) == 29
    assert len(await log.read("commands", 0, 0, 100)) == 29
    assert await log.append("commands", envelopes(1)) == [30]
    await log.close()
    assert check(killed) == []


async def test_a_journal_that_a_kill_left_is_read_back(killed: Path):
    assert check(killed) == []
    log = await SqliteLog.open(killed)
    assert await log.end("commands", 0) == 30
    await log.close()


LIMITED = """
import asyncio, json, os, resource, sys
from pathlib import Path
from streams.log import LogUnavailable
from streams.sqlite import SqliteLog
from tests.streams.envelopes import envelope, envelopes

async def main():
    directory = Path(sys.argv[1])
    log = await SqliteLog.open(directory)
    await log.append("commands", [envelope("first")])
    size = (directory / "log.db-wal").stat().st_size
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20_000, hard))
    acknowledged, reason = 1, ""
    while not reason:
        try:
            await log.append("commands", envelopes(1))
            acknowledged += 1
        except LogUnavailable as error:
            reason = str(error)
    refused = await asyncio.gather(
        *(log.append("commands", [envelope(data={"x": "y" * 50_000})]) for _ in range(20)),
        return_exceptions=True,
    )
    end = await log.end("commands", 0)
    first = await log.find("commands", ("acme", "first"))
    read = len(await log.read("commands", 0, 0, 100_000))
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    after = await log.append("commands", envelopes(3))
    await log.close()
    print(json.dumps({
        "acknowledged": acknowledged, "reason": reason, "end": end, "read": read, "after": after,
        "refused": [type(each).__name__ for each in refused], "first": first is not None,
    }))

asyncio.run(main())
"""


async def test_a_disk_that_refuses_refuses_callers_and_is_used_again_when_it_takes(tmp_path: Path):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LIMITED, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    seen = json.loads(output)
    assert "disk" in seen["reason"]
    assert set(seen["refused"]) == {"LogUnavailable"}
    assert seen["first"]
    assert seen["end"] == seen["read"] == seen["acknowledged"]
    assert seen["after"] == [seen["end"] + 1, seen["end"] + 2, seen["end"] + 3]
    log = await SqliteLog.open(tmp_path)
    assert await log.end("commands", 0) == seen["end"] + 3
    await log.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB, where we may mount one."""
    directory = tmp_path / "small"
    directory.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", str(directory)]
    if os.geteuid() != 0 or subprocess.run(mounting, capture_output=True, check=False).returncode != 0:
        pytest.skip("may not mount a small file system")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def remount(directory: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(directory)], check=True)


async def test_a_full_disk_is_named_and_the_log_continues_when_there_is_space(small_disk: Path):
    log = await SqliteLog.open(small_disk / "data")
    await log.append("commands", envelopes(10))
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(b"x" * 4096)
    acknowledged = 10
    with pytest.raises(LogUnavailable, match="disk is full"):
        while True:
            await log.append("commands", envelopes(1))
            acknowledged += 1
    assert await log.end("commands", 0) == acknowledged
    assert len(await log.read("commands", 0, 0, 100_000)) == acknowledged
    assert log.refusing == "the disk is full"
    filler.unlink()
    await until(lambda: not log.refusing)  # without requests: it detects this itself
    assert await log.append("commands", envelopes(1)) == [acknowledged + 1]
    await log.close()
    assert check(small_disk / "data") == []


async def test_a_read_only_directory_is_named(small_disk: Path):
    await (await SqliteLog.open(small_disk / "data")).close()
    remount(small_disk, "ro")
    with pytest.raises(LogUnavailable, match=r"(?i)read-only"):
        await SqliteLog.open(small_disk / "data")
    remount(small_disk, "rw")
    await (await SqliteLog.open(small_disk / "data")).close()
