"""The memory allocator of the C library."""

import ctypes

_M_ARENA_MAX = -8


def share_arena() -> None:
    """Threads share one arena (glibc). Otherwise each of them has one of its own, whose freed memory the
    others cannot use: after a start with 10,000 APIs that is a fifteenth of the process."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
