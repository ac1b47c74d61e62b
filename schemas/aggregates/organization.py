"""Organizations: the tenants. Everything belongs to one, and its name is the partition key."""

from typing import ClassVar

from pydantic import Field

from schemas.aggregate import Aggregate, Route
from schemas.message import Command, Event, Name, Value


class OrganizationFields(Value):
    display_name: str = Field(
        default="", max_length=200, description="A title for people.", examples=["Acme Corporation"]
    )


class DefineOrganization(Command, OrganizationFields):
    aggregate: ClassVar[str] = "organization"
    verb: ClassVar[str] = "define"


class OrganizationDefined(Event, OrganizationFields):
    aggregate: ClassVar[str] = "organization"
    verb: ClassVar[str] = "defined"


class Organization(OrganizationFields):
    name: Name


ORGANIZATION = Aggregate(
    name="organization",
    plural="organizations",
    summary="A tenant: the owner of everything else.",
    view=Organization,
    commands=(DefineOrganization,),
    events=(OrganizationDefined,),
    routes=(Route("PUT", DefineOrganization),),
    columns=("name", "display_name"),
    top=True,
)
