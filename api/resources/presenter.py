"""Additions of one aggregate to its HTTP resources, besides those of the catalog."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from api.call import Call, Schema
from api.problems import Problem, invalid_body
from api.submission import CommandDraft
from projections.pages import AsOf
from schemas.message import Command

DraftReader = Callable[[Call, type[Command], str | None], Awaitable[CommandDraft]]
ItemExtension = Callable[[Call, str, dict[str, Any], AsOf], Awaitable[None]]
ListExtension = Callable[[Call, str, Sequence[dict[str, Any]], AsOf], Awaitable[None]]


async def json_fields(call: Call, model: type[Command], name: str | None) -> CommandDraft:
    """The body as a JSON object. Raises Problem 400 if it is not JSON, 422 if it is not an object."""
    return CommandDraft(json_object(await command_body(call)))


async def command_body(call: Call) -> bytes:
    """The body of one command. Raises Problem 413, before it is decoded, if it is too large for the log."""
    body = await call.request.body()
    if len(body) > (most := call.services.settings.max_command):
        raise Problem(
            413,
            "command-too-large",
            f"A command of {len(body):,} bytes is too large; the limit is {most:,}.",
        )
    return body


def json_object(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        where = {"line": error.lineno, "column": error.colno} if body else {}
        raise Problem(
            400,
            "not-json",
            "The body is not JSON.",
            errors=[{"pointer": "", "detail": error.msg, **where}],
        ) from error
    if not isinstance(value, dict):
        raise invalid_body({"pointer": "", "detail": "not an object"})
    return cast("dict[str, Any]", value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Presenter:
    """Additions of one aggregate.

    `filters`: fields of the view that are query parameters of the list; that of a list has its name in the
    singular, and compares its elements; `extend_item` and `extend_list` add
    members to the response of a GET (which then changes without its version, and is never answered 304),
    documented by `additions`; `drafts` read the body of a command if it is not simply its fields; `bodies`
    document those; `omitted`: fields of a command that the server sets; `secrets`: members of the first
    response only.
    """

    filters: tuple[str, ...] = ()
    extend_item: ItemExtension | None = None
    extend_list: ListExtension | None = None
    additions: Mapping[str, Schema] = field(default_factory=dict[str, Schema])
    drafts: Mapping[type[Command], DraftReader] = field(default_factory=dict[type[Command], DraftReader])
    bodies: Mapping[type[Command], Mapping[str, tuple[Schema, Any]]] = field(
        default_factory=dict[type[Command], Mapping[str, tuple[Schema, Any]]]
    )
    omitted: frozenset[str] = frozenset()
    secrets: Mapping[type[Command], Mapping[str, Schema]] = field(
        default_factory=dict[type[Command], Mapping[str, Schema]]
    )

    def draft_reader(self, model: type[Command]) -> DraftReader:
        return self.drafts.get(model, json_fields)


DEFAULT_PRESENTER = Presenter()
