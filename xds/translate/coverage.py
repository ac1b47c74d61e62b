"""The methods that are answered below a path, by any operation that matches all of it.

A tree of path segments: finding the operations that cover a path costs the depth of the path and the number
of operations found, not the number of all operations.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gateways.model import Segment
from xds.translate.paths import is_root


@dataclass(slots=True)
class _Node:
    literals: dict[str, "_Node"] = field(default_factory=dict[str, "_Node"])
    parameter: "_Node | None" = None
    here: set[str] = field(default_factory=set[str])
    """Methods of paths that end here."""
    below: set[str] = field(default_factory=set[str])
    """Methods of paths with a tail from here on."""


class Coverage:
    """Methods by path. See `xds.translate.paths.covers`."""

    def __init__(self, operations: Iterable[tuple[Sequence[Segment], str]]) -> None:
        self._root = _Node()
        for path, method in operations:
            self._add(path, method)

    def methods(self, path: Sequence[Segment]) -> set[str]:
        """The methods of the operations whose paths cover this one."""
        found: set[str] = set()
        segments = () if is_root(path) else path
        nodes = [self._root]
        for segment in segments:
            for node in nodes:
                found |= node.below
            if segment.kind == "tail":
                return found
            following: list[_Node] = []
            for node in nodes:
                if segment.kind == "literal" and (literal := node.literals.get(segment.text)) is not None:
                    following.append(literal)
                if node.parameter is not None:
                    following.append(node.parameter)
            nodes = following
        for node in nodes:
            found |= node.below | node.here
        return found

    def _add(self, path: Sequence[Segment], method: str) -> None:
        node = self._root
        for segment in () if is_root(path) else path:
            if segment.kind == "tail":
                node.below.add(method)
                return
            if segment.kind == "parameter":
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.literals.setdefault(segment.text, _Node())
        node.here.add(method)
