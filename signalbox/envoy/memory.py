"""The memory that a process on this machine may use."""

import os
from collections.abc import Iterable
from pathlib import Path

LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""The container's limit, in version 2 and version 1 of control groups."""

ENVOY_SHARE = 0.75
"""The share of Envoy's heap; the rest is for sockets and other processes."""


def usable_memory(limits: Iterable[Path] = LIMITS) -> int:
    """Bytes: the memory of the machine, or the container's limit if that is less."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in limits:
        try:
            text = file.read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            memory = min(memory, int(text))
    return memory


def envoy_heap(limits: Iterable[Path] = LIMITS) -> int:
    """Bytes that Envoy may allocate before it refuses requests."""
    return int(usable_memory(limits) * ENVOY_SHARE)
