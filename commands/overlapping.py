"""Overlaps of APIs: requests of one API that another one on the same gateway would answer.

The API with the longest context that contains the path answers a request; with equal contexts, the API with
the more specific host. So an API takes requests from each API with a common host and a context above its
own, and from each API with the same context and a wider host pattern (from narrow to wide: `a.b.c`,
`*.b.c`, `*.c`, `*`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Self


def above(context: str) -> list[str]:
    """The contexts above `context`, the longest first: `/a/b/c` -> `/a/b`, `/a`."""
    parts = context.split("/")[1:]
    return ["/" + "/".join(parts[:n]) for n in range(len(parts) - 1, 0, -1)]


def wider(host: str) -> list[str]:
    """The host patterns that are wider than `host`: `a.b.c` -> `*.b.c`, `*.c`, `*`."""
    if host == "*":
        return []
    labels = host.removeprefix("*.").split(".")
    return [*("*." + ".".join(labels[n:]) for n in range(1, len(labels))), "*"]


def within(context: str, outer: str) -> bool:
    """Whether `context` is `outer` or below it."""
    return context == outer or context.startswith(f"{outer}/")


def delegated(context: str, by: Iterable[str]) -> bool:
    """Whether the contexts that an API delegates, `by`, allow another API to have `context`."""
    return any(within(context, one) for one in by)


def shared_keys(context: str, hosts: Iterable[str]) -> Iterator[str]:
    """The shared keys of an API; overlapping APIs with other claims find it by them.

    `hosts/<host><context>/`: contexts below this one; `wider-hosts/<pattern><context>`: the same context
    and a host that the pattern matches; `wider-hosts/<pattern><context>/`: contexts below it and such a
    host.
    """
    outer = above(context)
    for host in hosts:
        for one in outer:
            yield f"hosts/{host}{one}/"
        for pattern in wider(host):
            yield f"wider-hosts/{pattern}{context}"
            for one in outer:
                yield f"wider-hosts/{pattern}{one}/"


@dataclass(frozen=True, slots=True)
class Places:
    """The keys of APIs that an API overlaps with: claims (of one API each) and shared keys."""

    claims: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()


def losing(context: str, hosts: Iterable[str]) -> Places:
    """The keys of APIs whose requests an API with `context` and `hosts` would answer."""
    claims: dict[str, None] = {}
    shared: dict[str, None] = {}
    outer = above(context)
    for host in hosts:
        patterns = wider(host)
        for one in outer:
            claims[f"hosts/{host}{one}"] = None
            shared[f"wider-hosts/{host}{one}"] = None
            claims.update(dict.fromkeys(f"hosts/{pattern}{one}" for pattern in patterns))
        claims.update(dict.fromkeys(f"hosts/{pattern}{context}" for pattern in patterns))
    return Places(tuple(claims), tuple(shared))


def taking(context: str, hosts: Iterable[str]) -> Places:
    """The keys of APIs that would answer requests of an API with `context` and `hosts`."""
    shared: dict[str, None] = {}
    for host in hosts:
        shared[f"wider-hosts/{host}{context}"] = None
        shared[f"wider-hosts/{host}{context}/"] = None
        shared.update(dict.fromkeys(f"hosts/{pattern}{context}/" for pattern in (host, *wider(host))))
    return Places(shared=tuple(shared))


def places_of(context: str, hosts: Iterable[str]) -> int:
    """The approximate number of keys that `losing`, `taking` and `shared_keys` each return."""
    depth = context.count("/")
    return sum((2 + host.count(".")) * depth for host in hosts)


@dataclass(slots=True)
class Operations:
    """The operations of an API (`GET /orders/{id}`) by the first segment of their path."""

    context: str
    all: tuple[str, ...]
    _by_first: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    _any_first: list[str] = field(default_factory=list[str])
    """Operations whose first segment is a parameter or `*`."""

    @classmethod
    def of(cls, context: str, operations: tuple[str, ...]) -> Self:
        sorted_ = cls(context, operations)
        for operation in operations:
            first = _path(operation)[0]
            if _any(first):
                sorted_._any_first.append(operation)
            else:
                sorted_._by_first.setdefault(first, []).append(operation)
        return sorted_

    def covered(self, context: str) -> list[str]:
        """The operations whose requests an API with `context`, which is within this one's, would answer."""
        if context == self.context:
            return list(self.all)
        below = context.removeprefix(self.context).split("/")[1:]
        candidates = (*self._by_first.get(below[0], ()), *self._any_first)
        return [operation for operation in candidates if _reaches(_path(operation), below)]


def _path(operation: str) -> list[str]:
    return operation.partition(" ")[2].split("/")[1:]


def _any(segment: str) -> bool:
    return "{" in segment or "*" in segment


def _reaches(path: list[str], below: list[str]) -> bool:
    """Whether an operation's path matches a path that begins with these segments."""
    if len(path) < len(below) and path[-1] != "*":
        return False
    return all(_any(segment) or segment == literal for segment, literal in zip(path, below, strict=False))
