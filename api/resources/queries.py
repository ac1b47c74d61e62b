"""Reads of the resources of any aggregate."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from api.call import Call
from api.preconditions import matches
from api.problems import not_found
from api.resources.presenter import Presenter
from api.responses import POSITION, RawResponse, json_response
from projections.pages import AsOf, Page, Row, cursor_after, read_cursor
from schemas.aggregate import Aggregate, Part
from schemas.aggregates.organization import ORGANIZATION
from schemas.message import Value


@dataclass(frozen=True, slots=True)
class ResourceQueries:
    """The reads of one aggregate. Its read model has reached `as_of` already."""

    aggregate: Aggregate
    presenter: Presenter

    async def list(
        self, call: Call, limit: int, cursor: str | None, as_of: AsOf, where: Mapping[str, str]
    ) -> Response:
        own = call.principal.organizations if self.aggregate.top else None
        if own is not None:
            return await self._list_accessible(call, sorted(own), limit, cursor, as_of)
        organization = "" if self.aggregate.top else call.organization
        page = await call.services.read_models.list(
            self.aggregate, organization, limit=limit, cursor=cursor, as_of=as_of, where=where
        )
        if not page.rows and organization:
            await require_organization(call)
        items = [resource(self.aggregate.view, row) for row in page.rows]
        if self.presenter.extend_list is not None:
            await self.presenter.extend_list(call, organization, items, as_of)
        return _list_response(call, items, page, call.services.log.partition_of(organization))

    async def _list_accessible(
        self, call: Call, names: Sequence[str], limit: int, cursor: str | None, as_of: AsOf
    ) -> Response:
        """The organizations that a token gives access to: few, and in any partition."""
        models, after = call.services.read_models, read_cursor(cursor, "")
        headers: dict[str, str] = {}
        if len(call.partitions) == 1:  # with several there is no single position
            (partition,) = call.partitions
            headers[POSITION] = f"{partition}:{await models.position('resources', partition)}"
        rows = [await models.get(self.aggregate, name, name, as_of) for name in names if name > after]
        found = [row for row in rows if row is not None]
        more = cursor_after(found[limit - 1].name) if len(found) > limit else None
        items = [resource(self.aggregate.view, row) for row in found[:limit]]
        return json_response(200, {"items": items, "next_cursor": more}, {**headers, **next_link(call, more)})

    async def get(self, call: Call, as_of: AsOf, if_none_match: str | None) -> Response:
        organization, name = names_in_path(self.aggregate, call)
        models = call.services.read_models
        position = await models.position("resources", call.partition)
        row = await models.get(self.aggregate, organization, name, as_of)
        if row is None:
            raise self._not_found(name)
        headers = {POSITION: f"{call.partition}:{position}", "ETag": etag(row)}
        if self.presenter.extend_item is None and matches(if_none_match, headers["ETag"]):
            return RawResponse(304, headers=headers)
        shown = resource(self.aggregate.view, row)
        if self.presenter.extend_item is not None:
            await self.presenter.extend_item(call, organization, shown, as_of)
        return json_response(200, shown, headers)

    async def list_parts(
        self, call: Call, part: Part, limit: int, cursor: str | None, as_of: AsOf
    ) -> Response:
        organization, name = names_in_path(self.aggregate, call)
        models = call.services.read_models
        if await models.get(self.aggregate, organization, name, as_of) is None:
            raise self._not_found(name)
        page = await models.parts(
            self.aggregate, part, organization, name, limit=limit, cursor=cursor, as_of=as_of
        )
        return _list_response(call, [_entry(part, row) for row in page.rows], page, call.partition)

    async def get_part(
        self, call: Call, part: Part, key: str, as_of: AsOf, if_none_match: str | None
    ) -> Response:
        organization, name = names_in_path(self.aggregate, call)
        models = call.services.read_models
        position = await models.position("resources", call.partition)
        row = await models.part(self.aggregate, part, organization, name, key, as_of)
        if row is None:
            single = part.plural.removesuffix("s")
            raise not_found(f"{single} {key[:100]!r} of {self.aggregate.name} {name[:100]!r}")
        headers = {POSITION: f"{call.partition}:{position}", "ETag": f'"{key}"'}
        if matches(if_none_match, headers["ETag"]):
            return RawResponse(304, headers=headers)
        return json_response(200, _entry(part, row), headers)

    def _not_found(self, name: str) -> Exception:
        return not_found(f"{self.aggregate.name} {name[:100]!r}")


async def require_organization(call: Call) -> None:
    """For an answer without content: raises Problem 404 when the organization was never created.

    Reads the event log, since the read models may not have a new organization yet.
    """
    subject = ORGANIZATION.subject(call.organization, call.organization)
    if not await call.services.log.read_subject("events", subject, limit=1):
        raise not_found(f"organization {call.organization[:100]!r}")


def names_in_path(aggregate: Aggregate, call: Call) -> tuple[str, str]:
    """The names of the organization and of the resource."""
    return call.organization, call.organization if aggregate.top else call.path("name")


def etag(row: Row) -> str:
    return f'"{row.version}"'


def resource(view: type[Value], row: Row) -> dict[str, Any]:
    """A resource in responses: the fields of its view, and `metadata`."""
    return {**_fields(row, view.model_fields), "name": row.name, "metadata": _metadata(row)}


def _entry(part: Part, row: Row) -> dict[str, Any]:
    fields = (field for field in part.event.model_fields if field != "organization")
    return {**_fields(row, fields), "metadata": _metadata(row)}


def _fields(row: Row, fields: Iterable[str]) -> dict[str, Any]:
    return {field: row.document[field] for field in fields if field in row.document}


def _metadata(row: Row) -> dict[str, Any]:
    return {
        "version": row.version,
        "position": row.position,
        "created_at": row.created,
        "changed_at": row.since,
    }


def next_link(call: Call, cursor: str | None) -> dict[str, str]:
    if cursor is None:
        return {}
    kept = [(k, v) for k, v in call.request.query_params.multi_items() if k not in ("cursor", "after")]
    query = urlencode([*kept, ("cursor", cursor)])
    return {"Link": f'<{call.request.scope["path"]}?{query}>; rel="next"'}


def _list_response(call: Call, items: Sequence[Mapping[str, Any]], page: Page, partition: int) -> Response:
    headers = {POSITION: f"{partition}:{page.position}", **next_link(call, page.next_cursor)}
    return json_response(200, {"items": items, "next_cursor": page.next_cursor}, headers)
