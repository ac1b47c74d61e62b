import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

HANGING = """
import asyncio, threading, pytest

async def never_comes():
    await asyncio.Event().wait()

async def test_waits():
    await never_comes()

async def test_waits_in_a_task():
    await asyncio.gather(asyncio.create_task(never_comes(), name="the-waiting-task"))

def test_blocks():
    threading.Event().wait()

@pytest.fixture
async def unavailable():
    await never_comes()

def test_waits_for_its_fixture(unavailable): ...

@pytest.fixture
async def never_stops():
    yield
    await never_comes()

def test_waits_for_its_fixture_to_stop(never_stops): ...
"""


def test_a_test_that_hangs_fails_and_says_where_and_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "test_hanging.py").write_text(HANGING)
    command = [sys.executable, "-m", "pytest", "-p", "tests.support.hang_guard", "-o", "asyncio_mode=auto"]
    ran = subprocess.run(
        [*command, "-rfE", "--rootdir", tmp_path, "--hang-seconds", "0.1", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    summary = re.findall(r"^(?:FAILED|ERROR) .*::(\w+)", ran.stdout, re.MULTILINE)
    assert set(summary) == set(re.findall(r"def (test_\w+)", HANGING)), ran.stdout + ran.stderr
    assert ran.stdout.count("hangs: not done after 0.1 s") >= len(set(summary))
    assert "the-waiting-task" in ran.stdout
