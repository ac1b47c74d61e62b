"""Input and output of decisions: a request in, events or a rejection out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

from schemas.catalog import subject_of
from schemas.limits import LONGEST_DETAIL, LONGEST_POINTER, MOST_ERRORS
from schemas.message import Command, Event
from schemas.outcome import Complaint

C_co = TypeVar("C_co", bound=Command, covariant=True)


class Request(NamedTuple, Generic[C_co]):
    """A command with its caller, time and id."""

    id: str
    command: C_co
    time: str
    by: str = ""

    @property
    def subject(self) -> str:
        return subject_of(self.command, self.id)


@dataclass(frozen=True, slots=True)
class Rejection:
    """The reason of a rejection: a stable rule name, a message, and the errors with their locations."""

    rule: str
    message: str
    errors: tuple[Complaint, ...] = ()


def rejected(rule: str, message: str, **fields: str) -> Rejection:
    """A rejection; keyword arguments: the error of each top-level field of the command."""
    return Rejection(rule, message, tuple(Complaint(pointer=f"/{k}", detail=v) for k, v in fields.items()))


def bounded(rejection: Rejection) -> Rejection:
    """The rejection with number and length of its texts cut to the limits of an outcome; errors left out
    are counted."""
    errors = [
        Complaint(pointer=_cut(error.pointer, LONGEST_POINTER), detail=_cut(error.detail, LONGEST_DETAIL))
        for error in rejection.errors[:MOST_ERRORS]
    ]
    if more := len(rejection.errors) - len(errors):
        errors.append(Complaint(pointer="", detail=f"{more:,} more errors are not listed"))
    return Rejection(rejection.rule, _cut(rejection.message, LONGEST_DETAIL), tuple(errors))


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Accepted without events: `subject` is already as requested."""

    subject: str


Decision = tuple[Event, ...] | Unchanged | Rejection


class State(Protocol):
    """The state of one aggregate instance: a frozen dataclass that can be written as JSON."""

    @property
    def claims(self) -> Iterable[str]:
        """Keys that only one resource may hold at a time."""
        ...

    @property
    def shared(self) -> Iterable[str]:
        """Look-up keys of this resource; several resources may have the same key."""
        ...

    @property
    def references(self) -> Mapping[str, str]:
        """Resources that this one refers to: pointer to the field of the command -> subject."""
        ...


class Others(Protocol):
    """Read access of a decision to the other states of its partition."""

    def state(self, subject: str) -> State | None: ...

    def holder(self, claim: str) -> str | None:
        """The subject that holds a claim; the first one, if an older version allowed several."""
        ...

    def holders(self, claim: str) -> Iterable[str]:
        """All subjects that hold a claim."""
        ...

    def sharing(self, key: str) -> Iterable[str]:
        """The subjects that have this shared key."""
        ...

    def referrers(self, subject: str) -> Iterable[str]:
        """The subjects that refer to this one."""
        ...
