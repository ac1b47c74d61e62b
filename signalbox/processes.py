"""Which process is which: a process id alone may be anybody's by the time it is looked at.

Read from `/proc` (proc(5)); where there is none, from `ps`.
"""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
BOOT = PROC / "sys/kernel/random/boot_id"


@dataclass(frozen=True, slots=True)
class Process:
    """A process as it can be told from all others: `started` is its start, unique with the boot."""

    pid: int
    started: str
    argv: tuple[str, ...]


def process(pid: int) -> Process | None:
    """The live process with this id; None when there is none, or it has ended and is not reaped."""
    if pid <= 0:
        return None
    return _from_proc(pid) if PROC.joinpath("self").exists() else _from_ps(pid)


def processes() -> Iterator[Process]:
    """All live processes that we may look at; none where there is no `/proc`."""
    if not PROC.is_dir():
        return
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (found := _from_proc(int(entry.name))) is not None:
            yield found


def _from_proc(pid: int) -> Process | None:
    try:
        stat = (PROC / str(pid) / "stat").read_text()
        argv = (PROC / str(pid) / "cmdline").read_bytes()
        boot = BOOT.read_text().strip()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The command's name is in parentheses and may itself hold blanks and parentheses.
    fields = stat.rpartition(")")[2].split()
    if fields[0] in "ZX":
        return None
    words = tuple(word.decode(errors="surrogateescape") for word in argv.split(b"\0")[:-1])
    return Process(pid, f"{boot}:{fields[19]}", words)


def _from_ps(pid: int) -> Process | None:
    answer = subprocess.run(
        ["ps", "-ww", "-o", "stat=,lstart=,command=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    if len(answer) < 7 or answer[0].startswith("Z"):
        return None
    return Process(pid, " ".join(answer[1:6]), tuple(answer[6:]))
