"""Converts output to standard error (of C libraries, warnings, tracebacks) into log lines.

The log itself writes to a duplicate of the descriptor, so that its own lines are not read again.
"""

import atexit
import faulthandler
import fcntl
import logging
import os
import re
import secrets
import sys
import threading
from types import TracebackType
from typing import TextIO

STDERR = 2
PIPE_BYTES = 1 << 20
"""The size of the pipe: a write with the interpreter lock held must not block on a full pipe."""

CLOSE_SECONDS = 30.0
_GRPC = re.compile(r"([IWEF])\d{4} \d\d:\d\d:\d\d")
_LEVELS = {"I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR, "F": logging.CRITICAL}

logger = logging.getLogger("stderr")


def kept_stderr() -> TextIO:
    """The current standard error, independent of later changes of its descriptor."""
    return os.fdopen(os.dup(STDERR), "w", encoding="utf-8", errors="replace")


def capture() -> None:
    """Starts logging the lines on standard error, until the process ends. Once per process."""
    logger.setLevel(logging.DEBUG)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    before = os.dup(STDERR)
    faulthandler.enable(before)  # a crash of the process itself cannot be read from the pipe
    reading, writing = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    os.dup2(writing, STDERR)
    os.close(writing)
    last = secrets.token_hex(16)
    thread = threading.Thread(target=_log_lines, args=(reading, last), name="stderr", daemon=True)
    thread.start()

    def end() -> None:
        sys.stderr.flush()
        # A child process may hold the pipe open: it is read up to this line, not to its end.
        os.write(STDERR, f"\n{last}\n".encode())
        os.dup2(before, STDERR)
        thread.join(CLOSE_SECONDS)

    atexit.register(end)


def _log_lines(reading: int, last: str) -> None:
    """Logs lines up to the line `last`."""
    with os.fdopen(reading, "rb") as lines:
        for line in lines:
            text = line.decode(errors="replace").rstrip()
            if text == last:
                return
            if text:
                logger.log(level_of(text), "%s", text)


def level_of(line: str) -> int:
    """The level in the first letter of lines of gRPC's C library; warning for all others."""
    found = _GRPC.match(line)
    return _LEVELS[found[1]] if found else logging.WARNING


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("signalbox").critical("ended by an error: %s", error, exc_info=(kind, error, trace))


def _uncaught_in_thread(ended: threading.ExceptHookArgs) -> None:
    name = ended.thread.name if ended.thread else "?"
    error = ended.exc_value or ended.exc_type()
    logging.getLogger("signalbox").error(
        "the thread %s ended by an error: %s",
        name,
        error,
        exc_info=(ended.exc_type, error, ended.exc_traceback),
    )
