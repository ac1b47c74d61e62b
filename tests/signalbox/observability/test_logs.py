"""With JSON logs every line on standard error is one JSON object, from any writer."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from signalbox.observability.stderr_lines import level_of

ROOT = Path(__file__).parents[3]

WRITERS = {
    "our own logger": ("import logging; logging.getLogger('signalbox.api').info('hello')", "signalbox.api"),
    "a library's logger": ("import logging; logging.getLogger('aiokafka').error('hello')", "aiokafka"),
    "print": ("import sys; print('hello', file=sys.stderr)", "stderr"),
    "a library in C": ("import os; os.write(2, b'hello\\n')", "stderr"),
    "a line that is not ended": ("import os; os.write(2, b'hello')", "stderr"),
    "a child process": ("import subprocess; subprocess.run('echo hello >&2', shell=True)", "stderr"),
    "a warning": ("import warnings; warnings.warn('hello')", "py.warnings"),
    "an error that ends the process": ("raise RuntimeError('hello')", "signalbox"),
    "an error that ends a thread": (
        "import threading\ndef fail(): raise RuntimeError('hello')\n"
        "thread = threading.Thread(target=fail); thread.start(); thread.join()",
        "signalbox",
    ),
    "an error in a task": (
        "import asyncio\nasync def fail(): raise RuntimeError('hello')\n"
        "async def main():\n    asyncio.create_task(fail()); await asyncio.sleep(0)\n"
        "asyncio.run(main())\nimport gc; gc.collect()",
        "asyncio",
    ),
    "a sentence for a person": ("from signalbox.observability import logs; logs.say('hello')", "signalbox"),
}


def lines_of(script: str) -> list[dict[str, Any]]:
    begin = "from signalbox.observability import logs\nlogs.set_up(json=True)\n"
    ran = subprocess.run(
        [sys.executable, "-W", "always", "-c", begin + script], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.stdout == ""
    return [json.loads(line) for line in ran.stderr.splitlines()]


@pytest.mark.parametrize("writer", WRITERS)
def test_every_line_is_json(writer: str) -> None:
    script, logger = WRITERS[writer]
    (line,) = [line for line in lines_of(script) if "hello" in json.dumps(line)]
    assert line["logger"] == logger
    assert {"time", "level", "message"} <= line.keys()


def test_a_crash_of_the_process_is_still_logged() -> None:
    begin = "import os\nfrom signalbox.observability import logs\nlogs.set_up(json=True)\n"
    script = begin + "os.kill(os.getpid(), 11)"
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert "Fatal Python error: Segmentation fault" in ran.stderr


def test_lines_keep_their_order_and_none_is_lost() -> None:
    output = lines_of("import os\nfor n in range(5000): os.write(2, b'%d\\n' % n)")
    assert [line["message"] for line in output] == [str(n) for n in range(5000)]


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("I0000 00:00:1763712000.1 12 chttp2.cc:1] x", logging.INFO),
        ("I1121 16:30:05.123456 12 chttp2.cc:1] x", logging.INFO),
        ("E1121 16:30:05.123456 12 chttp2.cc:1] x", logging.ERROR),
        ("Exception ignored in: x", logging.WARNING),
    ],
)
def test_the_level_is_the_one_that_grpc_says(line: str, level: int) -> None:
    assert level_of(line) == level
