"""A process that reads the log and computes the rows of a read model, for the process that started it.

Two interpreters do what one cannot do on two cores. The process gets the work once, and then the positions up
to which its rows are written; it sends batches of rows, and is a few batches ahead.
"""

import asyncio
import gc
import marshal
import os
import pickle
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from projections.databases.engines import engines
from projections.readmodel import Computation, Separable
from streams.log import OpenSource, Record, RecordSource, Topic
from streams.projection.advance import current_form
from streams.projection.progress import ComputedBatch

AHEAD = 3
"""Batches that are sent and not written yet."""
READ = 1000
JOINED = 4
"""Reads per batch: each is limited in bytes, too. While a batch is written to SQLite, live records wait."""
_LENGTH = struct.Struct("<Q")
_MAIN = "from streams.projection.computing_process import main; main()"


@dataclass(frozen=True, slots=True)
class Work:
    """The rows of `model` for the records of a partition above `after`, up to `end`. `target`: the database,
    where the tables begin with `prefix`; `empty`: they have no row of the partition."""

    source: OpenSource
    model: Separable
    target: Path | str
    prefix: str
    topic: Topic
    partition: int
    after: int
    end: int
    empty: bool


class ComputingProcess:
    """Blocking, except `kill`: `next` for one thread, `written` for another."""

    def __init__(self, work: Work) -> None:
        """Raises OSError."""
        path = os.pathsep.join(filter(None, sys.path))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _MAIN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        self._to = cast(BinaryIO, self._process.stdin)
        self._from = cast(BinaryIO, self._process.stdout)
        _send(self._to, pickle.dumps(work))

    def next(self) -> ComputedBatch | str:
        """The next batch, or why there is none; empty at the end. Raises EOFError when the process ended."""
        batch = marshal.loads(_receive(self._from))  # both run this interpreter
        return batch if isinstance(batch, str) else ComputedBatch(*batch)

    def written(self, position: int) -> None:
        with suppress(OSError):  # it has ended: then it needs no positions
            _send(self._to, marshal.dumps(position))

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """Ends the process; nothing may wait in `next`."""
        self._process.kill()
        self._process.wait()
        self._from.close()
        with suppress(OSError):
            self._to.close()


def main() -> None:
    """The process: the work comes on its standard input, rows go to its standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started it ends it
    given, rows = os.fdopen(0, "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    gc.disable()  # it would take a third of the time, and what is made here has no cycles
    try:
        work: Work = pickle.loads(_receive(given))
        try:
            asyncio.run(_compute(work, given, rows))
            reason = ""
        except (OSError, EOFError):
            raise
        except Exception as error:  # the process that started it does what cannot be done here
            reason = f"{type(error).__name__}: {error}"
        _send(rows, marshal.dumps(reason))
    except (OSError, EOFError):
        return  # nobody takes the rows any more


async def _compute(work: Work, given: BinaryIO, rows: BinaryIO) -> None:
    _, reader = engines(work.target)  # connects only when it is needed
    computation: Computation = work.model.computation(work.prefix, reader, empty=work.empty)
    async with work.source() as source:
        after, written, sent = work.after, work.after, 0
        records = await _read(source, work, after)
        while records:
            last = records[-1].position
            following = asyncio.create_task(_read(source, work, last))
            await asyncio.sleep(0)  # its request is sent
            if sent == AHEAD:
                written, sent = marshal.loads(_receive(given)), sent - 1
            batch = computation.rows([current_form(record) for record in records], written)
            _send(rows, marshal.dumps((after, last, batch)))
            sent += 1
            after, records = last, await following


async def _read(source: RecordSource, work: Work, after: int) -> Sequence[Record]:
    records: list[Record] = []
    for _ in range(JOINED):
        if after >= work.end:
            break
        more = await source.read(work.topic, work.partition, after, work.end, READ)
        if not more:
            break
        records += more
        after = more[-1].position
    return records


def _send(to: BinaryIO, content: bytes) -> None:
    to.write(_LENGTH.pack(len(content)))
    to.write(content)
    to.flush()


def _receive(of: BinaryIO) -> bytes:
    (length,) = _LENGTH.unpack(_exactly(of, _LENGTH.size))
    return _exactly(of, length)


def _exactly(of: BinaryIO, length: int) -> bytes:
    content = of.read(length)
    if len(content) < length:
        raise EOFError
    return content
