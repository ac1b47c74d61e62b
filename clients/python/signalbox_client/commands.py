"""Commands, and the values that they are made of."""

from schemas.api import (
    ApiSpec,
    Backend,
    DeleteApi,
    Document,
    Endpoint,
    HeaderMatch,
    Operation,
    Policy,
    PublishApi,
    Resilience,
    Upstream,
)
from schemas.deployment import StartDeployment, StopDeployment
from schemas.environment import DefineEnvironment, DeleteEnvironment
from schemas.gateway import ChangeGateway, RegisterGateway, RemoveGateway
from schemas.message import Command
from schemas.organization import DefineOrganization
from schemas.outcome import Outcome
from schemas.project import DefineProject, DeleteProject

__all__ = [
    "ApiSpec",
    "Backend",
    "ChangeGateway",
    "Command",
    "DefineEnvironment",
    "DefineOrganization",
    "DefineProject",
    "DeleteApi",
    "DeleteEnvironment",
    "DeleteProject",
    "Document",
    "Endpoint",
    "HeaderMatch",
    "Operation",
    "Outcome",
    "Policy",
    "PublishApi",
    "RegisterGateway",
    "RemoveGateway",
    "Resilience",
    "StartDeployment",
    "StopDeployment",
    "Upstream",
]
