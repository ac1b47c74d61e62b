"""How much memory a process of this machine may use."""

import os
from collections.abc import Iterable
from pathlib import Path

LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Of the container, as the two versions of control groups show it."""

ENVOY_SHARE = 0.75
"""What Envoy's heap may have of it; the rest is for sockets and whoever else runs here."""


def usable_memory(limits: Iterable[Path] = LIMITS) -> int:
    """Bytes: what the machine has, or what its container may use when that is less."""
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
