"""What `signalbox doctor` finds."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "note", "wrong"]


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, how it is, and what to do when it is wrong."""

    what: str
    verdict: Verdict
    found: str
    hint: str = ""
