"""The parts of a unit that is split, in groups: what takes requests to parts stays small.

A group has the parts for all paths with a certain beginning or, where parts differ in their hosts, for all
hosts with a certain end. A beginning that more than `most` parts have is divided by the next character. What
groups there are follows from the parts alone.

A part belongs to the group of its context, and to all those groups whose requests it may get too: `/api` to
that of `/api/o…`, and `*.test` to that of `….a.test`.
"""

import hashlib
from bisect import bisect_left, insort
from collections import Counter
from dataclasses import dataclass, field

from gateways.translator import Dispatching, Part, PartGroup
from xds.scopes import group_name

_LAST = "\U0010ffff"
"""Above all characters."""
_TIMES = 4
"""So many times more hosts than contexts: parts are grouped by hosts."""


@dataclass(frozen=True, slots=True, order=True)
class _Group:
    """`divided`: longer beginnings have groups of their own."""

    beginning: str
    divided: bool


@dataclass(slots=True)
class PartGroups:
    """Implements `gateways.translator.PartGroups`. `most`: unless more parts, there are no groups."""

    unit: str
    most: int
    _parts: dict[str, Part] = field(default_factory=dict[str, Part])
    """By API."""
    _moved: dict[Part, None] = field(default_factory=dict[Part, None])
    """Those that came or went since `changed`."""
    _contexts: Counter[str] = field(default_factory=Counter[str])
    _hosts: Counter[str] = field(default_factory=Counter[str])
    by_host: bool = False
    _keys: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Sorted: what selects a part, and its name."""
    _wide: dict[str, dict[str, None]] = field(default_factory=dict[str, dict[str, None]])
    """By beginning: the parts that may get every request with it."""
    _named: dict[str, Part] = field(default_factory=dict[str, Part])
    _groups: dict[_Group, tuple[Part, ...]] = field(default_factory=dict[_Group, tuple[Part, ...]])
    _names: dict[str, _Group] = field(default_factory=dict[str, _Group])

    def place(self, api: str, part: Part | None) -> None:
        """Puts the part of an API in place of that before; None: it has none any more."""
        before = self._parts.pop(api, None)
        if part is not None:
            self._parts[api] = part
        if before == part:
            return
        if before is not None:
            self._count(before, -1)
            self._index(before, add=False)
        if part is not None:
            self._count(part, 1)
            self._index(part, add=True)

    def changed(self) -> set[str]:
        """The names of what changed since the last call: of groups, and of the unit when there are others."""
        moved, self._moved = self._moved, {}
        if not moved:
            return set()
        before, names = self._groups, self._names
        self._choose()
        if self._groups is before and (touched := self._touched(moved)) is not None:
            changed = {group for group in touched if before[group] != self._members(group)}
            self._groups |= {group: self._members(group) for group in changed}
            return {self._name(group) for group in changed}
        self._groups = {group: self._members(group) for group in self._found()}
        if len(self._groups) < 2:
            self._groups = {}
        self._names = {self._name(group): group for group in self._groups}
        now = {name: self._groups[group] for name, group in self._names.items()}
        then = {name: before[group] for name, group in names.items()}
        changed = {name for name in now.keys() | then.keys() if now.get(name) != then.get(name)}
        return changed | ({self.unit} if not now or now.keys() != then.keys() else set())

    def of(self, name: str) -> Dispatching:
        if name != self.unit:
            group = self._names.get(name)
            return Dispatching(self._groups[group] if group else ())
        if not self._groups:
            return Dispatching(tuple(part for _, part in sorted(self._parts.items())))
        # Longer beginnings first
        ordered = sorted(self._names.items(), key=lambda n: (-len(n[1].beginning), n[1]))
        return Dispatching(groups=tuple(self._group(name, group.beginning) for name, group in ordered))

    # -- what selects parts

    def _count(self, part: Part, by: int) -> None:
        self._moved[part] = None
        for counter, values in ((self._contexts, (part.context,)), (self._hosts, _hosts(part))):
            for value in values:
                counter[value] += by
                if not counter[value]:
                    del counter[value]

    def _choose(self) -> None:
        """Chooses between hosts and paths."""
        by_host = len(self._hosts) > len(self._contexts) * (1 if self.by_host else _TIMES)
        if by_host != self.by_host:
            self.by_host, self._groups, self._keys, self._wide = by_host, {}, [], {}
            for part in self._parts.values():
                self._index(part, add=True)

    def _selected_by(self, part: Part) -> list[tuple[str, str | None]]:
        """What selects a part, and the beginnings of which it may get every request."""
        if not self.by_host:
            return [(part.context, f"{part.context}/")]
        found: list[tuple[str, str | None]] = []
        for host in _hosts(part):
            turned = host.removeprefix("*")[::-1]
            found.append((turned, turned if host.startswith("*") else None))
        return found

    def _index(self, part: Part, *, add: bool) -> None:
        for text, beginning in self._selected_by(part):
            key = (text, part.name)
            if add:
                insort(self._keys, key)
            else:
                del self._keys[bisect_left(self._keys, key)]
            if beginning is not None and add:
                self._wide.setdefault(beginning, {})[part.name] = None
            elif beginning is not None:
                self._wide[beginning].pop(part.name)
                if not self._wide[beginning]:
                    del self._wide[beginning]
        if add:
            self._named[part.name] = part
        else:
            self._named.pop(part.name, None)

    # -- groups

    def _between(self, beginning: str) -> tuple[int, int]:
        """The keys with a beginning."""
        return bisect_left(self._keys, (beginning,)), bisect_left(self._keys, (beginning + _LAST,))

    def _home(self, text: str) -> _Group:
        """The group of requests with exactly this path or host."""
        for end in range(len(text) + 1):
            start, stop = self._between(text[:end])
            if stop - start <= self.most:
                return _Group(text[:end], divided=False)
        return _Group(text, divided=True)

    def _at_home(self, group: _Group) -> tuple[int, int]:
        start, stop = self._between(group.beginning)
        return (start, bisect_left(self._keys, (group.beginning, _LAST))) if group.divided else (start, stop)

    def _found(self) -> list[_Group]:
        """All groups that some part is selected by."""
        found: list[_Group] = []
        at = 0
        while at < len(self._keys):
            found.append(self._home(self._keys[at][0]))
            _, at = self._at_home(found[-1])
        return found

    def _touched(self, moved: dict[Part, None]) -> set[_Group] | None:
        """The groups that may have or had these parts; None: there are other groups now."""
        touched = set[_Group]()
        for part in moved:
            for text, beginning in self._selected_by(part):
                home = self._home(text)
                start, stop = self._at_home(home)
                if home not in self._groups or start == stop:
                    return None
                touched.add(home)
                if beginning is not None:
                    touched.update(g for g in self._groups if g.beginning.startswith(beginning))
        return touched

    def _members(self, group: _Group) -> tuple[Part, ...]:
        start, stop = self._at_home(group)
        names = {name for _, name in self._keys[start:stop]}
        for end in range(len(group.beginning) + 1):
            names.update(self._wide.get(group.beginning[:end], ()))
        return tuple(self._named[name] for name in sorted(names))

    def _name(self, group: _Group) -> str:
        """Another one for other requests: proxies keep it until they have the unit with the others."""
        described = f"{self.by_host} {group.divided} {group.beginning}"
        return group_name(self.unit, hashlib.sha256(described.encode()).hexdigest()[:12])

    def _group(self, name: str, beginning: str) -> PartGroup:
        if not self.by_host:
            return PartGroup(name, ("*",), beginning or "/")
        end = beginning[::-1]
        # Envoy's `*` is not empty.
        exact = (end,) if end and not end.startswith(".") else ()
        return PartGroup(name, (f"*{end}", *exact), "/")


def _hosts(part: Part) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*part.hosts, *part.sandbox_hosts)))
