"""Projects: a team's APIs within an organization."""

from typing import ClassVar

from pydantic import Field

from schemas.aggregate import Aggregate, Route
from schemas.message import Command, Event, Name, Value


class ProjectFields(Value):
    display_name: str = Field(
        default="", max_length=200, description="A title for people.", examples=["Shop"]
    )
    description: str = Field(default="", max_length=2000, description="A text for people.")


class DefineProject(Command, ProjectFields):
    aggregate: ClassVar[str] = "project"
    verb: ClassVar[str] = "define"


class DeleteProject(Command):
    aggregate: ClassVar[str] = "project"
    verb: ClassVar[str] = "delete"


class ProjectDefined(Event, ProjectFields):
    aggregate: ClassVar[str] = "project"
    verb: ClassVar[str] = "defined"


class ProjectDeleted(Event):
    aggregate: ClassVar[str] = "project"
    verb: ClassVar[str] = "deleted"
    effect = "end"


class Project(ProjectFields):
    name: Name


PROJECT = Aggregate(
    name="project",
    plural="projects",
    summary="A team's APIs.",
    view=Project,
    commands=(DefineProject, DeleteProject),
    events=(ProjectDefined, ProjectDeleted),
    routes=(Route("PUT", DefineProject), Route("DELETE", DeleteProject)),
    columns=("name", "display_name"),
)
