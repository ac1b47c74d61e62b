"""The folded state of a partition, with the indexes that rules need: claims, shared keys and references."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from commands.decision import State


class Change(NamedTuple):
    """State and version of a subject before a change; `rollback` restores them."""

    subject: str
    state: State | None
    version: int


@dataclass(slots=True)
class PartitionState:
    """All current states by subject. Mutable, owned by one decider; changes can be rolled back.

    `versions` counts the events of each subject; it is kept when a resource ends, so that a later one of
    the same name continues the count.
    """

    states: dict[str, State] = field(default_factory=dict[str, State])
    versions: dict[str, int] = field(default_factory=dict[str, int])
    _claims: dict[str, str] = field(default_factory=dict[str, str])
    _also: dict[str, dict[str, None]] = field(default_factory=dict[str, dict[str, None]])
    """Further holders of a claim; only decisions of older versions caused them."""
    _sharing: dict[str, dict[str, None]] = field(default_factory=dict[str, dict[str, None]])
    _referrers: dict[str, dict[str, None]] = field(default_factory=dict[str, dict[str, None]])
    _capitalized: dict[str, dict[str, None]] = field(default_factory=dict[str, dict[str, None]])
    """Subjects whose names have capital letters, by the subject with its name in lower case."""

    def state(self, subject: str) -> State | None:
        return self.states.get(subject)

    def version(self, subject: str) -> int:
        return self.versions.get(subject, 0)

    def holder(self, claim: str) -> str | None:
        return self._claims.get(claim)

    def holders(self, claim: str) -> tuple[str, ...]:
        first = self._claims.get(claim)
        return () if first is None else (first, *self._also.get(claim, ()))

    def require_exclusive(self, subject: str) -> None:
        """Raises ValueError when another subject holds a claim of this one, which rules must prevent."""
        state = self.states.get(subject)
        for claim in state.claims if state is not None else ():
            if self._claims[claim] != subject or claim in self._also:
                raise ValueError(f"{subject} claims {claim}, held by {', '.join(self.holders(claim))}")

    def spelled_otherwise(self, subject: str) -> str | None:
        """A live subject of the same parent whose name differs from this one's in case only, if any."""
        small = _in_small_letters(subject)
        if small != subject and small in self.states:
            return small
        return next((other for other in self._capitalized.get(small, ()) if other != subject), None)

    def sharing(self, key: str) -> Iterable[str]:
        return self._sharing.get(key, {}).keys()

    def referrers(self, subject: str) -> Iterable[str]:
        return self._referrers.get(subject, {}).keys()

    def put(self, subject: str, state: State | None, version: int) -> Change:
        """Sets a subject's state (None: it ended) and version (0: remove it); returns the change."""
        old = self.states.get(subject)
        before = Change(subject, old, self.version(subject))
        if old is not None:
            self._withdraw(subject, old)
        if state is None:
            self.states.pop(subject, None)
        else:
            self.states[subject] = state
            if (small := _in_small_letters(subject)) != subject:
                self._capitalized.setdefault(small, {})[subject] = None
            for claim in state.claims:
                if self._claims.setdefault(claim, subject) != subject:
                    self._also.setdefault(claim, {})[subject] = None
            for key in state.shared:
                self._sharing.setdefault(key, {})[subject] = None
            for target in state.references.values():
                self._referrers.setdefault(target, {})[subject] = None
        if version:
            self.versions[subject] = version
        else:
            self.versions.pop(subject, None)
        return before

    def rollback(self, changes: Iterable[Change]) -> None:
        """Reverts changes, given in the order they were made."""
        for before in reversed(tuple(changes)):
            self.put(before.subject, before.state, before.version)

    def _withdraw(self, subject: str, old: State) -> None:
        if (small := _in_small_letters(subject)) != subject:
            _leave(self._capitalized, small, subject)
        for claim in old.claims:
            others = self._also.get(claim)
            if self._claims.get(claim) == subject:
                del self._claims[claim]
                if others is not None:
                    self._claims[claim] = next(iter(others))
            if others is not None:
                others.pop(self._claims[claim], None)
                others.pop(subject, None)
                if not others:
                    del self._also[claim]
        for key in old.shared:
            _leave(self._sharing, key, subject)
        for target in old.references.values():
            _leave(self._referrers, target, subject)


def _in_small_letters(subject: str) -> str:
    parent, slash, name = subject.rpartition("/")
    return subject if name.islower() else parent + slash + name.lower()


def _leave(index: dict[str, dict[str, None]], key: str, subject: str) -> None:
    subjects = index.get(key)
    if subjects is not None:
        subjects.pop(subject, None)
        if not subjects:
            del index[key]
