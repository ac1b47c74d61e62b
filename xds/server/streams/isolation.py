"""Isolates the bad resources of a rejected response by sending parts of it again. Pure.

A proxy rejects a response as a whole. Each further response halves the suspected resources, whatever else
changes meanwhile: b bad ones among n are isolated after O(b log n) responses.
"""

from collections.abc import Sequence

Trial = tuple[str, ...]


def trials(same: Sequence[str], changed: Sequence[str], blamed: set[str]) -> list[Trial]:
    """The groups to be sent next, as a stack: the last one is sent first.

    `same` are resources that still have the rejected version; `changed` were part of the response, and have
    other versions now. `blamed`: names that the proxy, or another proxy, rejected; other words in it are
    ignored.
    """
    if blamed.intersection(changed):
        # The resource that caused the rejection has another version now: the rest is probably good.
        return [tuple(same)] if same else []
    bad = [name for name in same if name in blamed]
    rest = [name for name in same if name not in blamed]
    if bad and rest:
        return [*((name,) for name in bad), tuple(rest)]
    middle = len(same) // 2
    return [part for part in (tuple(same[middle:]), tuple(same[:middle])) if part]
