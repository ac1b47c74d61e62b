"""Environments: groups of gateways, such as development or production."""

from typing import ClassVar

from pydantic import Field

from schemas.aggregate import Aggregate, Route
from schemas.message import Command, Event, Name, Value


class EnvironmentFields(Value):
    display_name: str = Field(
        default="", max_length=200, description="A title for people.", examples=["Production"]
    )
    description: str = Field(default="", max_length=2000, description="A text for people.")


class DefineEnvironment(Command, EnvironmentFields):
    aggregate: ClassVar[str] = "environment"
    verb: ClassVar[str] = "define"


class DeleteEnvironment(Command):
    aggregate: ClassVar[str] = "environment"
    verb: ClassVar[str] = "delete"


class EnvironmentDefined(Event, EnvironmentFields):
    aggregate: ClassVar[str] = "environment"
    verb: ClassVar[str] = "defined"


class EnvironmentDeleted(Event):
    aggregate: ClassVar[str] = "environment"
    verb: ClassVar[str] = "deleted"
    effect = "end"


class Environment(EnvironmentFields):
    name: Name


ENVIRONMENT = Aggregate(
    name="environment",
    plural="environments",
    summary="A group of gateways.",
    view=Environment,
    commands=(DefineEnvironment, DeleteEnvironment),
    events=(EnvironmentDefined, EnvironmentDeleted),
    routes=(Route("PUT", DefineEnvironment), Route("DELETE", DeleteEnvironment)),
    columns=("name", "display_name"),
)
