"""The description of an aggregate, without its rules. Everything generic follows from it:
HTTP resources, command line verbs, read models and `as_of`, schemas, documentation."""

from dataclasses import dataclass

from schemas.message import Command, Event, Value


@dataclass(frozen=True, slots=True)
class Route:
    """The HTTP request of a command; the path is relative to the aggregate's collection.

    `PUT` creates or changes the resource `{name}`, `POST` creates one whose name is in the body or chosen
    by the server, `DELETE` ends it.
    """

    method: str
    command: type[Command]


@dataclass(frozen=True, slots=True)
class Part:
    """An immutable sub-collection: each `event` adds the entry named by its field `key`."""

    plural: str
    event: type[Event]
    key: str


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A kind of resource; each one is named by `organizations/<org>/<plural>/<name>`.

    `listed_by`: text fields that lists are filtered by, the most selective first; read models index them.
    """

    name: str
    plural: str
    summary: str
    view: type[Value]
    commands: tuple[type[Command], ...]
    events: tuple[type[Event], ...]
    routes: tuple[Route, ...]
    columns: tuple[str, ...] = ("name",)
    parts: tuple[Part, ...] = ()
    top: bool = False
    listed_by: tuple[str, ...] = ()

    def subject(self, organization: str, name: str) -> str:
        """The CloudEvents `subject` of one resource."""
        if self.top:
            return f"{self.plural}/{name}"
        return f"organizations/{organization}/{self.plural}/{name}"
