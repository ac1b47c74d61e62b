"""The base of all messages: frozen, strict pydantic models with a CloudEvents type."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from schemas.limits import HISTORY
from schemas.text import faults, plain

LONGEST_NAME = 100
_NAME = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"

Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=LONGEST_NAME, pattern=_NAME),
    Field(
        description="Letters, digits, dot, hyphen and underscore; begins and ends with a letter or digit.",
        examples=["orders"],
    ),
]
_matches = re.compile(_NAME).fullmatch


def is_name(text: str) -> bool:
    """Whether `text` can be a `Name`."""
    return len(text) <= LONGEST_NAME and _matches(text) is not None


Version = Annotated[int, Field(ge=0, description="The number of events of the resource.")]


class Value(BaseModel):
    """A frozen value; unknown fields are an error."""

    # Validators are built at their first use: a process uses few of them, and all take a tenth of a second.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False, defer_build=True)


class Message(Value):
    """Data of a CloudEvent. `aggregate`, `verb` and `major` make up its `type`."""

    aggregate: ClassVar[str]
    verb: ClassVar[str]
    major: ClassVar[int] = 1

    organization: Name
    name: Name

    @classmethod
    def type(cls) -> str:
        return f"io.signalbox.{cls.aggregate}.{cls.verb}.v{cls.major}"

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Validates `data`. Raises pydantic.ValidationError."""
        # As `model_validate`, without its handling of options, which takes as long as the validation.
        return cls.__pydantic_validator__.validate_python(data)

    def data(self) -> dict[str, Any]:
        """JSON-ready data, without the fields that are not set."""
        # As `model_dump`, without its handling of options.
        return self.__pydantic_serializer__.to_python(self, mode="json", exclude_none=True)


class Command(Message):
    """A request to change one resource. `io.signalbox.<aggregate>.command.<verb>.v1`."""

    expected_version: Version | None = Field(
        default=None, description="Reject unless it is at this version; 0: unless it does not exist."
    )

    @model_validator(mode="before")
    @classmethod
    def _readable(cls, data: Any) -> Any:
        if not plain(data) and isinstance(data, Mapping):
            _require_readable(data, cls.__name__)
        return cast("object", data)

    @classmethod
    def type(cls) -> str:
        return f"io.signalbox.{cls.aggregate}.command.{cls.verb}.v{cls.major}"

    def data(self) -> dict[str, Any]:
        """JSON-ready; without `name` when the command leaves it to its id."""
        content = super().data()
        if not self.name:
            del content["name"]
        return content


class Event(Message):
    """A decided fact; never changed. `io.signalbox.<aggregate>.<past tense>.v1`.

    `effect`: its change to the resource's document in the read models: its fields are merged into the
    document, or the document ends.
    """

    effect: ClassVar[Literal["merge", "end"]] = "merge"

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Validates `data` without the bounds on commands (`HISTORY`). Raises pydantic.ValidationError."""
        return cls.__pydantic_validator__.validate_python(data, context=HISTORY)


def _require_readable(data: Any, title: str) -> None:
    """Raises pydantic.ValidationError with every text in `data` that has a character that is not allowed."""
    errors = [
        InitErrorDetails(
            type=PydanticCustomError("unreadable_text", "{what}", {"what": f"the text {what}"}),
            loc=location,
            input=text,
        )
        for location, text, what in faults(data)
    ]
    if errors:
        raise ValidationError.from_exception_data(title, errors)
