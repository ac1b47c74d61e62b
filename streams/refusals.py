"""Which contributions of a group gateways took, and which of those they refused is to blame. Pure.

A gateway refuses a group's resource as a whole. What was new in it goes back to what was taken last,
so that the other APIs of the group go on changing and a restart finds a configuration that works. When
several were new, each is tried again by itself: the one to blame is refused alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from gateways.entry import Cause

Group = tuple[str, str]
"""Gateway subject and first path segment."""


@dataclass(slots=True)
class Refusals:
    _taken: dict[Group, tuple[Cause, ...]] = field(default_factory=dict[Group, tuple[Cause, ...]])
    _to_try: dict[Group, list[Cause]] = field(default_factory=dict[Group, list[Cause]])

    def taken(self, group: Group, causes: tuple[Cause, ...]) -> None:
        self._taken[group] = causes

    def last_taken(self, group: Group, api: str) -> Cause | None:
        """What of an API was taken last."""
        return next((cause for cause in self._taken.get(group, ()) if cause.api == api), None)

    def refused(self, group: Group, causes: Iterable[Cause]) -> list[Cause]:
        """What was new in a refused resource; several are noted to be tried one by one."""
        new = [cause for cause in causes if cause not in self._taken.get(group, ())]
        if len(new) > 1:
            self._to_try[group] = list(new)
        return new

    def waiting(self, group: Group) -> bool:
        """Whether a suspect is still to be tried."""
        return group in self._to_try

    def decided_anew(self, gateway: str, api: str) -> None:
        """An API's deployment was started or stopped: what it was before is not tried any more."""
        for group, waiting in tuple(self._to_try.items()):
            if group[0] == gateway:
                left = [cause for cause in waiting if cause.api != api]
                if left:
                    self._to_try[group] = left
                else:
                    del self._to_try[group]

    def stopped(self, group: Group, api: str) -> None:
        """An API's deployment was stopped: nothing goes back to it."""
        self.decided_anew(group[0], api)
        if group in self._taken:
            self._taken[group] = tuple(cause for cause in self._taken[group] if cause.api != api)

    def next_to_try(self, group: Group) -> Cause | None:
        """The next suspect, when there is one."""
        waiting = self._to_try.get(group)
        if not waiting:
            return None
        cause = waiting.pop(0)
        if not waiting:
            del self._to_try[group]
        return cause
