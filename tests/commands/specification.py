"""Given events, when a command, then events: the form of these tests of the rules."""

from dataclasses import dataclass, field
from typing import Self

from commands.decision import Rejection, Request
from commands.partition_state import PartitionState
from commands.rules import Decided, decide, evolve
from schemas.message import Command, Event

AT = "2026-11-21T02:12:00.000000Z"


@dataclass
class Specification:
    partition_state: PartitionState = field(default_factory=PartitionState)
    result: Decided | Rejection | None = None

    def given(self, *events: Event) -> Self:
        for event in events:
            evolve(self.partition_state, event)
        return self

    def when(self, command: Command, id: str = "cmd-1") -> Self:
        self.result = decide(Request(id, command, AT, "tester"), self.partition_state)
        return self

    def then(self, *events: Event) -> Decided:
        assert isinstance(self.result, Decided), self.result
        assert tuple(event for _, event in self.result.events) == events
        return self.result

    def then_anything(self) -> Decided:
        assert isinstance(self.result, Decided), self.result
        return self.result

    def then_unchanged(self, subject: str) -> None:
        assert isinstance(self.result, Decided), self.result
        assert (self.result.events, self.result.subject) == ((), subject)

    def then_rejected(self, rule: str, *pointers: str, saying: str = "") -> None:
        assert isinstance(self.result, Rejection), self.result
        assert self.result.rule == rule
        assert tuple(e.pointer for e in self.result.errors) == pointers
        assert saying in self.result.message


def given(*events: Event) -> Specification:
    return Specification().given(*events)
