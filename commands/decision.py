"""Input and output of decisions: a request in, events or a rejection out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from schemas.catalog import subject_of
from schemas.limits import LONGEST_DETAIL, LONGEST_POINTER, MOST_ERRORS
from schemas.message import Command, Event
from schemas.outcome import Complaint

C_co = TypeVar("C_co", bound=Command, covariant=True)


@dataclass(frozen=True, slots=True)
class Request(Generic[C_co]):
    """A command with who asked when, and under which id."""

    id: str
    command: C_co
    time: str
    by: str = ""

    @property
    def subject(self) -> str:
        return subject_of(self.command, self.id)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a command was not carried out: a stable rule name, a sentence for a person, and where."""

    rule: str
    message: str
    errors: tuple[Complaint, ...] = ()


def rejected(rule: str, message: str, **fields: str) -> Rejection:
    """A rejection; the keyword arguments are top-level fields of the command and what is wrong there."""
    return Rejection(rule, message, tuple(Complaint(pointer=f"/{k}", detail=v) for k, v in fields.items()))


def bounded(rejection: Rejection) -> Rejection:
    """The rejection with no more and no longer texts than an outcome carries; errors left out are counted."""
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
    """Accepted, and nothing to do: `subject` is already as asked."""

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
        """Keys under which others find this resource; any number of resources may have one."""
        ...

    @property
    def references(self) -> Mapping[str, str]:
        """Resources this one needs: pointer into the command that named it -> subject."""
        ...


class Others(Protocol):
    """Read access of a decision to the rest of its partition."""

    def state(self, subject: str) -> State | None: ...

    def holder(self, claim: str) -> str | None:
        """The subject that holds a claim; the first, where an older version let several have it."""
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
