"""Findings of `signalbox doctor`."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "note", "wrong"]


@dataclass(frozen=True, slots=True)
class Check:
    """One checked subject: its verdict, the finding, and a hint when it is wrong."""

    what: str
    verdict: Verdict
    found: str
    hint: str = ""
