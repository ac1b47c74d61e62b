"""Resources for tests of the rules: organization acme with a project, an environment and two gateways."""

from typing import Any

from schemas.aggregates.api import ApiPublished, ApiSpec, PublishApi, content_digest
from schemas.aggregates.deployment import DeploymentStarted, StartDeployment
from schemas.aggregates.environment import EnvironmentDefined
from schemas.aggregates.gateway import GatewayRegistered
from schemas.aggregates.organization import OrganizationDefined
from schemas.aggregates.project import ProjectDefined
from tests.commands.specification import AT

ORG = "acme"
TOKEN = "0" * 64

ACME = OrganizationDefined(organization=ORG, name=ORG)
SHOP = ProjectDefined(organization=ORG, name="shop")
PRODUCTION = EnvironmentDefined(organization=ORG, name="production")
EAST = GatewayRegistered(organization=ORG, name="east", environment="production", token_digest=TOKEN)
WEST = GatewayRegistered(organization=ORG, name="west", environment="production", token_digest=TOKEN)
DEFAULT_RESOURCES = (ACME, SHOP, PRODUCTION, EAST, WEST)


def spec(context: str = "/orders", url: str = "http://127.0.0.1:9000", **fields: Any) -> ApiSpec:
    return ApiSpec.model_validate(
        {
            "context": context,
            "upstreams": [{"name": "main", "endpoints": [{"url": url}]}],
            "backends": [{"upstream": "main"}],
            "operations": [{"method": "GET", "path": "/{id}"}],
            **fields,
        }
    )


def publish(name: str = "orders", of: ApiSpec | None = None, **fields: Any) -> PublishApi:
    return PublishApi(organization=ORG, name=name, project="shop", spec=of or spec(), **fields)


def published(name: str = "orders", revision: int = 1, of: ApiSpec | None = None) -> ApiPublished:
    content = of or spec()
    return ApiPublished(
        organization=ORG,
        name=name,
        project="shop",
        revision=revision,
        digest=content_digest(content),
        spec=content,
    )


def deploy(api: str = "orders", **fields: Any) -> StartDeployment:
    return StartDeployment.model_validate({"organization": ORG, "api": api, "gateway": "east", **fields})


def started(
    name: str, api: str = "orders", revision: int = 1, context: str = "/orders", **fields: Any
) -> DeploymentStarted:
    return DeploymentStarted.model_validate(
        {
            "organization": ORG,
            "name": name,
            "api": api,
            "revision": revision,
            "gateways": ("east",),
            "context": context,
            "hosts": ("*",),
            "requested_at": AT,
            **fields,
        }
    )
