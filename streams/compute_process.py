"""Pure functions in a process of their own: bulk work that holds neither the event loop nor its interpreter.

The process is started when it is first wanted and ends when nothing was computed for a while. Until it runs,
and when it fails, callers compute by themselves, with the same result.
"""

import asyncio
import contextlib
import gc
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar, TypeVarTuple

T = TypeVar("T")
Args = TypeVarTuple("Args")

IDLE_SECONDS = 10.0
CALL_SECONDS = 60.0
"""A process that has not answered a call for this time is killed."""
AGAIN_SECONDS = 60.0
"""A process that failed is not started again for this time."""
END_SECONDS = 0.5
YOUNG = 50_000
"""New objects before a garbage collection in the process: few live long there."""
_STARTED = time.time()
_PURE = frozenset({"api", "definitions", "gateways", "schemas", "streams", "xds"})
"""The packages of the functions, and of their arguments and results."""
_SIZE = 8
_PIPE_BYTES = 1 << 20

logger = logging.getLogger("signalbox.compute")


class NotComputed(Exception):
    """The process does not run (yet), or could not compute it: the caller is to compute it."""


class Compute(Protocol):
    async def run(self, function: Callable[[*Args], T], *args: *Args) -> T:
        """The result of a pure function of a module. Raises NotComputed."""
        ...


class NoProcess:
    """Callers compute everything by themselves."""

    async def run(self, function: Callable[[*Args], T], *args: *Args) -> T:
        raise NotComputed


async def computed(compute: Compute, function: Callable[[*Args], T], *args: *Args) -> T:
    """The result of a pure function of a module: by `compute`, or else in a thread."""
    try:
        return await compute.run(function, *args)
    except NotComputed:
        return await asyncio.to_thread(function, *args)


class ComputeProcess:
    """Belongs to one event loop. Computes in the order of the calls."""

    def __init__(self, idle_seconds: float = IDLE_SECONDS, call_seconds: float = CALL_SECONDS) -> None:
        self._idle_seconds = idle_seconds
        self._call_seconds = call_seconds
        self._input: asyncio.StreamWriter | None = None
        """That of the running process."""
        self._task: asyncio.Task[None] | None = None
        self._waiting: deque[asyncio.Future[bytes] | None] = deque()
        """None: nobody waits for the reply."""
        self._idle: asyncio.TimerHandle | None = None
        self._not_before = 0.0

    async def run(self, function: Callable[[*Args], T], *args: *Args) -> T:
        """The result of a pure function of a module. Starts the process if need be. Raises NotComputed."""
        if self._input is None:
            self._start(function)
            raise NotComputed
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        try:
            self._ask(self._input, (function, args), reply)
            async with asyncio.timeout(self._call_seconds):
                answered, result = pickle.loads(await reply)
        except TimeoutError:
            self._failed("it does not answer")
            await self.close()
            raise NotComputed from None
        except ConnectionResetError:
            raise NotComputed from None  # its task ends it
        except (pickle.PickleError, AttributeError, TypeError, ImportError) as error:
            raise _failure(function, f"{type(error).__name__}: {error}") from error
        if not answered:
            raise _failure(function, result)
        return result

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._task is not None

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _start(self, first: Callable[..., object]) -> None:
        due = asyncio.get_running_loop().time() >= self._not_before
        if self._task is None and due and cores() > 1 and not _code_changed():
            self._task = asyncio.create_task(self._process(first), name="compute process")

    def _ask(
        self, input: asyncio.StreamWriter, call: object, reply: asyncio.Future[bytes] | None = None
    ) -> None:
        message = pickle.dumps(call, pickle.HIGHEST_PROTOCOL)
        if input.is_closing():
            raise ConnectionResetError("it has ended")
        input.write(len(message).to_bytes(_SIZE, "big") + message)
        self._waiting.append(reply)
        if self._idle is not None:
            self._idle.cancel()

    async def _process(self, first: Callable[..., object]) -> None:
        """Runs the process until it is idle, fails, or this is cancelled."""
        process: subprocess.Popen[bytes] | None = None
        input: asyncio.StreamWriter | None = None
        try:
            process, own = _spawned()
            output, input = await asyncio.open_connection(sock=own, limit=_PIPE_BYTES)
            # It imports the modules of the first call before it is given any.
            self._ask(input, (_loaded, (first,)))
            await self._answer(output, input)
        except (OSError, asyncio.IncompleteReadError) as error:
            self._failed(str(error))
        finally:
            self._input = self._task = None
            for reply in self._waiting:
                if reply is not None and not reply.done():
                    reply.set_exception(NotComputed())
            self._waiting.clear()
            if self._idle is not None:
                self._idle.cancel()
            if input is not None:
                input.close()  # with it the process ends
            if process is not None:
                await _ended(process)

    def _failed(self, reason: str) -> None:
        logger.warning("the process for bulk work ended, the server goes on without: %s", reason)
        self._not_before = asyncio.get_running_loop().time() + AGAIN_SECONDS

    async def _answer(self, output: asyncio.StreamReader, input: asyncio.StreamWriter) -> None:
        """Passes on results until the process was idle. Raises OSError, IncompleteReadError."""
        while True:
            try:
                size = await output.readexactly(_SIZE)
            except asyncio.IncompleteReadError as end:
                if not end.partial and self._input is None and not self._waiting:
                    return
                raise
            result = await output.readexactly(int.from_bytes(size, "big"))
            reply = self._waiting.popleft()
            if reply is not None and not reply.done():
                reply.set_result(result)
            if not self._waiting:
                self._idle = asyncio.get_running_loop().call_later(self._idle_seconds, self._end, input)
            self._input = input

    def _end(self, input: asyncio.StreamWriter) -> None:
        """The process ends with its input."""
        self._input = None
        input.close()


def _failure(function: Callable[..., object], reason: str) -> NotComputed:
    logger.warning("%s is computed by the server, because it failed: %s", function.__name__, reason)
    return NotComputed()


def _code_changed() -> bool:
    """Whether a loaded module was installed again since: the process would load another version."""
    files = [
        Path(file)
        for name, module in tuple(sys.modules.items())
        if name.partition(".")[0] in _PURE and (file := getattr(module, "__file__", None))
    ]
    try:
        return any(file.stat().st_ctime > _STARTED for file in files)
    except OSError:
        return True


def _spawned() -> tuple[subprocess.Popen[bytes], socket.socket]:
    """The process, and the socket for its input and output. Raises OSError.

    Started by `vfork`: handlers of `fork` that libraries with threads have do not run.
    """
    own, given = socket.socketpair()
    with given:
        try:
            return subprocess.Popen(
                (sys.executable, "-m", __name__),
                stdin=given.fileno(),
                stdout=given.fileno(),
                start_new_session=True,  # Ctrl-C is for the server, which ends it
            ), own
        except OSError:
            own.close()
            raise


async def _ended(process: subprocess.Popen[bytes]) -> None:
    """Returns once the process, whose input has ended, ends; kills it if it does not."""
    try:
        await asyncio.to_thread(process.wait, END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        await asyncio.to_thread(process.wait)


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _loaded(function: Callable[..., object]) -> str:
    """Unpickling a function has imported its module."""
    return function.__name__


def serve(calls: BinaryIO, results: BinaryIO) -> None:
    """Computes one call after the other until `calls` ends."""
    while size := calls.read(_SIZE):
        try:
            function, args = pickle.loads(calls.read(int.from_bytes(size, "big")))
            result = pickle.dumps((True, function(*args)), pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            result = pickle.dumps((False, f"{type(error).__name__}: {error}"))
        results.write(len(result).to_bytes(_SIZE, "big") + result)
        results.flush()


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.set_threshold(YOUNG, 20, 100)
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed does not disturb the results
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        serve(sys.stdin.buffer, results)


if __name__ == "__main__":
    _main()
