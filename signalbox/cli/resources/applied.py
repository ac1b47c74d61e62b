"""The results of applied definitions, as text."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

REFUSED = ("refused", "partly-refused")
RESULTS = ("created", "changed", "unchanged")


class Tally:
    """Counts results and states of deployments."""

    def __init__(self) -> None:
        self._results: Counter[str] = Counter()
        self._states: Counter[str] = Counter()
        self._failed = 0
        self._places: dict[tuple[str, str], str] = {}
        self.late = 0

    def count(self, item: Mapping[str, Any]) -> None:
        self._results[item["result"]] += 1
        self._failed += not good(item)
        if item["result"] in RESULTS and item.get("problem"):
            self._states["not deployed"] += 1

    def twice(self, item: Mapping[str, Any]) -> str:
        """A warning when another file defined the same resource: only the last definition takes effect."""
        if item["result"] not in RESULTS:
            return ""
        what, source = (item["kind"], item["name"]), str(item.get("source") or "-")
        before = self._places.get(what)
        self._places[what] = source
        if before is None or before == source:
            return ""
        message = f"{' '.join(what)} is defined in {before} too; the last one applied takes effect"
        return finding(item, {"detail": message, "severity": "warning", "line": item.get("line")})

    def settled(self, state: str) -> None:
        self._states[state] += 1

    @property
    def bad(self) -> bool:
        return bool(self._failed or self.late or any(self._states[state] for state in REFUSED))

    def sentence(self, seconds: float) -> str:
        """Such as `3 created, 1 invalid; 3 serving (0.2 s)`."""
        parts = [_list(self._results)]
        states = Counter(self._states)
        states["late"] = self.late
        if +states:
            parts.append(_list(states))
        return f"{'; '.join(parts)} ({seconds:.1f} s)"


def _list(counted: Counter[str]) -> str:
    return ", ".join(f"{n:,} {what}" for what, n in counted.items() if n) or "nothing"


def good(item: Mapping[str, Any]) -> bool:
    """Whether a definition was applied, and deployed if that was asked for."""
    return item["result"] in RESULTS and not item.get("problem")


def finding(item: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    """`file:line:column: error: message (pointer)`, as compilers print it."""
    place = [str(item.get("source") or "-")]
    line = one.get("line") or item.get("line")
    if line:
        place.append(str(line))
        if one.get("column"):
            place.append(str(one["column"]))
    text = f"{':'.join(place)}: {one.get('severity') or 'error'}: {one.get('detail') or one.get('message')}"
    return f"{text} ({one['pointer']})" if one.get("pointer") else text


def problem_text(item: Mapping[str, Any], problem: Mapping[str, Any]) -> str:
    """Why a definition, or its deployment, was rejected."""
    return finding(item, {"detail": problem.get("detail") or problem.get("title"), "line": item.get("line")})


def outcome(item: Mapping[str, Any]) -> str:
    """One definition in a line: result, kind, name and file."""
    revision = f" revision {item['revision']}" if item.get("revision") else ""
    name = " ".join(part for part in (str(item.get("kind") or ""), str(item.get("name") or "")) if part)
    source = item.get("source") or "-"
    return f"{item['result']:<10} {name}{revision}  {source}" if name else f"{item['result']:<10} {source}"
