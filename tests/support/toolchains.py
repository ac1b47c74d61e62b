"""Compilers and package clients of other languages, for tests that compile and run programs."""

import asyncio
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.real_parts import missing

DOWNLOAD_SECONDS = 180.0
BUILD_SECONDS = 420.0
"""A first build on a loaded machine; with a warm cache it takes seconds."""

GO = {"GOMAXPROCS": "2", "GOFLAGS": "-p=2 -mod=readonly -buildvcs=false"}
"""Leaves cores to other tests. Caches are the user's own, so that the second run downloads nothing."""


class DownloadFailed(Exception):
    """A toolchain is installed, but dependencies of a program could not be downloaded."""


@dataclass(frozen=True)
class Ran:
    """The exit code and output of a program."""

    code: int
    out: str
    err: str


def tool(name: str) -> str:
    """The path of a program. Skips the test where the machine has none: not all languages are required."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


async def run(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    seconds: float,
    environment: Mapping[str, str] | None = None,
) -> Ran:
    """Runs a program to its end. Kills it and raises TimeoutError after `seconds`."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate()
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    return Ran(process.returncode or 0, out.decode(), err.decode())


async def download(command: Sequence[str | Path], cwd: Path) -> None:
    """Fetches dependencies. Skips the test if that fails; SIGNALBOX_REQUIRE_REAL=1 fails it."""
    try:
        ran = await run(command, cwd=cwd, seconds=DOWNLOAD_SECONDS, environment=GO)
    except TimeoutError:
        missing(DownloadFailed(f"{command[0]} took more than {DOWNLOAD_SECONDS:.0f} s"))
    if ran.code != 0:
        missing(DownloadFailed(f"{' '.join(map(str, command))}: {ran.err.strip()[-2000:]}"))


async def build_go(module: Path, into: Path) -> Path:
    """The program of a Go module with its own go.mod and go.sum. Skips the test where there is no Go."""
    go = tool("go")
    await download([go, "mod", "download"], module)
    program = into / "program"
    ran = await run([go, "build", "-o", program, "."], cwd=module, seconds=BUILD_SECONDS, environment=GO)
    assert ran.code == 0, ran.err
    return program
