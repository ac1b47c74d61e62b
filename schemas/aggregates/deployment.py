"""Deployments: a revision of an API on one or several gateways, from one command on."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from schemas.aggregate import Aggregate, Route
from schemas.aggregates.api import Context, Host
from schemas.message import Command, Event, Name, Value


class StartDeployment(Command):
    """Puts a revision of an API on a gateway, or on all gateways of an environment."""

    aggregate: ClassVar[str] = "deployment"
    verb: ClassVar[str] = "start"

    name: Name = Field(default="", description="Left out: the command's id becomes the deployment's.")
    api: Name
    revision: int | None = Field(default=None, ge=1, description="Default: the newest.")
    gateway: Name | None = None
    environment: Name | None = None

    @model_validator(mode="after")
    def _one_target(self) -> "StartDeployment":
        if (self.gateway is None) == (self.environment is None):
            raise ValueError("give exactly one of gateway and environment")
        return self


class StopDeployment(Command):
    aggregate: ClassVar[str] = "deployment"
    verb: ClassVar[str] = "stop"


class DeploymentStarted(Event):
    aggregate: ClassVar[str] = "deployment"
    verb: ClassVar[str] = "started"

    api: Name
    revision: int
    environment: Name | None = None
    gateways: tuple[Name, ...]
    context: Context
    hosts: tuple[Host, ...]
    sandbox_hosts: tuple[Host, ...] = Field(
        default=(), description="Empty from older versions; the revision's hosts apply then."
    )
    requested_at: str
    state: Literal["active"] = "active"


class DeploymentSuperseded(Event):
    """Another deployment of the same API replaced it on some gateways; `gateways` are the remaining ones."""

    aggregate: ClassVar[str] = "deployment"
    verb: ClassVar[str] = "superseded"

    by: Name
    gateways: tuple[Name, ...]
    state: Literal["active", "superseded"]


class DeploymentStopped(Event):
    aggregate: ClassVar[str] = "deployment"
    verb: ClassVar[str] = "stopped"

    left: tuple[Name, ...] = Field(description="The gateways that it was in force on until now.")
    gateways: tuple[Name, ...] = ()
    state: Literal["stopped"] = "stopped"


class DeploymentFields(Value):
    """A deployment: the API, its revision, and the gateways it is in force on."""

    api: Name
    revision: int
    environment: Name | None = None
    gateways: tuple[Name, ...] = Field(description="The gateways that it is in force on now.")


class Deployment(DeploymentFields):
    name: Name = Field(description="The deployment's id.")
    context: Context
    hosts: tuple[Host, ...]
    sandbox_hosts: tuple[Host, ...] = ()
    requested_at: str
    state: Literal["active", "superseded", "stopped"]
    by: Name | None = Field(default=None, description="The deployment that superseded it.")
    left: tuple[Name, ...] = Field(default=(), description="Where it was in force when it was stopped.")


DEPLOYMENT = Aggregate(
    name="deployment",
    plural="deployments",
    summary="A revision of an API on gateways.",
    view=Deployment,
    commands=(StartDeployment, StopDeployment),
    events=(DeploymentStarted, DeploymentSuperseded, DeploymentStopped),
    routes=(Route("POST", StartDeployment), Route("DELETE", StopDeployment)),
    columns=("name", "api", "revision", "gateways", "state"),
    listed_by=("api", "state"),
)
