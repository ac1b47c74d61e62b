"""The memory allocator of the C library."""

import ctypes

_M_ARENA_MAX = -8
ARENAS = 2


def bound_arenas() -> None:
    """Threads share a few arenas (glibc). Otherwise each of them has one of its own, whose freed memory the
    others cannot use: after a start with 10,000 APIs that is a tenth of the process."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, ARENAS)
