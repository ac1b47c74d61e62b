"""How the resources of a rejected response are tried again, so that the bad ones are found. Pure.

A proxy rejects a response as a whole. Each further response halves the suspected resources, whatever else
changes meanwhile: b bad ones among n are isolated after O(b log n) responses.
"""

from collections.abc import Sequence

Trial = tuple[str, ...]


def trials(same: Sequence[str], changed: Sequence[str], blamed: set[str]) -> list[Trial]:
    """The groups to be sent next, the first one last.

    `same` are resources that still have the rejected version; `changed` were part of the response, and have
    other versions now. `blamed` may contain any other words: the names in it are those that the proxy, or
    another proxy, rejected.
    """
    if blamed.intersection(changed):
        # What made the proxy reject the response is no longer in it: the rest is probably good.
        return [tuple(same)] if same else []
    bad = [name for name in same if name in blamed]
    rest = [name for name in same if name not in blamed]
    if bad and rest:
        return [*((name,) for name in bad), tuple(rest)]
    middle = len(same) // 2
    return [part for part in (tuple(same[middle:]), tuple(same[:middle])) if part]
