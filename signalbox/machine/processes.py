"""Identification of processes: a process id alone may meanwhile belong to another process.

Read from `/proc` (proc(5)); where there is none, from `ps`.
"""

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
LISTENING = "0A"
"""The state of a listening socket in `/proc/net/tcp`."""
BOOT = PROC / "sys/kernel/random/boot_id"


@dataclass(frozen=True, slots=True)
class Process:
    """A process with a unique identity: `started` is its start time, unique with the boot id."""

    pid: int
    started: str
    argv: tuple[str, ...]


def process(pid: int) -> Process | None:
    """The live process with this id; None when there is none, or it has ended and is not reaped."""
    if pid <= 0:
        return None
    return _from_proc(pid) if PROC.joinpath("self").exists() else _from_ps(pid)


def processes() -> Iterator[Process]:
    """All live processes that this user may inspect; none without `/proc`."""
    if not PROC.is_dir():
        return
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (found := _from_proc(int(entry.name))) is not None:
            yield found


def listening_ports(pid: int) -> set[int]:
    """The TCP ports that a process listens on; empty when it has ended or this user may not inspect it."""
    ports, sockets = set[int](), set[str]()
    try:
        for descriptor in (PROC / str(pid) / "fd").iterdir():
            with suppress(FileNotFoundError):
                sockets.add(str(descriptor.readlink()))
        for table in ("tcp", "tcp6"):
            for line in (PROC / str(pid) / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTENING and f"socket:[{fields[9]}]" in sockets:
                    ports.add(int(fields[1].rpartition(":")[2], 16))
    except OSError:
        return set()
    return ports


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
