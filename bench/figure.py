"""A measured figure with its target, and facts about the machine."""

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

WORSE = 0.2


@dataclass(frozen=True, slots=True)
class Figure:
    """`most`: the value should not be above the target; otherwise not below. None: reported only.
    `compared`: a value that is worse than the committed one by more than `WORSE` is reported."""

    name: str
    value: float
    unit: str
    target: float | None = None
    most: bool = True
    compared: bool = False

    @property
    def holds(self) -> bool | None:
        if self.target is None:
            return None
        return self.value <= self.target if self.most else self.value >= self.target

    def regression(self, before: float) -> str | None:
        """The report if the value is worse than the committed one, `before`."""
        good, bad = (before, self.value) if self.most else (self.value, before)
        if not self.compared or bad <= good * (1 + WORSE):
            return None
        return f"{self.name}: {self.value:,.3g} {self.unit}, committed are {before:,.3g} {self.unit}"

    def row(self) -> dict[str, object]:
        return {
            "name": self.name,
            "value": round(self.value, 3),
            "unit": self.unit,
            "target": self.target,
            "holds": self.holds,
        }


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def machine() -> dict[str, object]:
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "load_1m": round(os.getloadavg()[0], 2),
    }
