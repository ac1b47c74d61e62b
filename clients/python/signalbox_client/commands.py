"""Commands, and the values that they are made of."""

from schemas.aggregates.api import (
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
from schemas.aggregates.deployment import StartDeployment, StopDeployment
from schemas.aggregates.environment import DefineEnvironment, DeleteEnvironment
from schemas.aggregates.gateway import ChangeGateway, RegisterGateway, RemoveGateway
from schemas.aggregates.organization import DefineOrganization
from schemas.aggregates.project import DefineProject, DeleteProject
from schemas.message import Command
from schemas.outcome import Outcome

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
