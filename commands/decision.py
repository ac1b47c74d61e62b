"""What deciders take and give: a request in, events or a rejection out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from schemas.catalog import subject_of
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


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Accepted, and nothing to do: `subject` is already as asked."""

    subject: str


Decision = tuple[Event, ...] | Unchanged | Rejection


class State(Protocol):
    """The state of one aggregate instance: a frozen dataclass that JSON can say."""

    @property
    def claims(self) -> Iterable[str]:
        """Keys that only one resource may hold at a time."""
        ...

    @property
    def references(self) -> Mapping[str, str]:
        """Resources this one needs: pointer into the command that named it -> subject."""
        ...


class Others(Protocol):
    """What a decision may see of the rest of its partition."""

    def state(self, subject: str) -> State | None: ...

    def holder(self, claim: str) -> str | None:
        """The subject that holds a claim."""
        ...

    def referrers(self, subject: str) -> Iterable[str]:
        """The subjects that refer to this one."""
        ...
