"""The HTTP resources of any aggregate, from what `schemas.catalog` says of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from api.as_of import resolve_as_of
from api.call import Call
from api.preconditions import Precondition, matches
from api.preconditions import parse_position as parse_position
from api.problems import Problem, not_found
from api.resources import history
from api.resources.presenter import Presenter
from api.responses import NO_STORE, POSITION, RawResponse, json_response
from api.submission import (
    CommandDraft,
    Submission,
    accepted_headers,
    earlier_submission,
    operation,
    pending,
    rejection,
    resource_of,
    row_after,
    submit,
    validated,
    wait_for_read_model,
)
from projections.pages import AsOf, K, Page, Row, read_cursor
from schemas.aggregate import Aggregate, Part, Route
from schemas.message import Value

LIMIT = 100
MOST = 1000


@dataclass(frozen=True, slots=True)
class ResourceHandlers:
    """The handlers of one aggregate."""

    aggregate: Aggregate
    presenter: Presenter

    # -- reading

    async def list(
        self,
        call: Call,
        limit: int,
        cursor: str | None,
        as_of_text: str | None,
        min_position: str | None,
        where: Mapping[str, str],
    ) -> Response:
        organization = call.path("org") if not self.aggregate.top else ""
        partition_of = call.services.log.partition_of
        if self.aggregate.top and call.principal.organizations is not None:
            own = sorted(call.principal.organizations)
            return await self._list_accessible(
                call,
                own,
                limit,
                cursor,
                await resolve_as_of(call, as_of_text, sorted(set(map(partition_of, own)))),
            )
        await wait_for_min_position(call, partition_of(organization), min_position)
        everywhere = range(call.services.log.partitions)
        as_of = await resolve_as_of(
            call, as_of_text, everywhere if self.aggregate.top else [partition_of(organization)]
        )
        page = await call.services.read_models.list(
            self.aggregate,
            organization,
            limit=limit,
            cursor=parse_cursor(cursor, ""),
            as_of=as_of,
            where=where,
        )
        items = [resource(self.aggregate.view, row) for row in page.rows]
        if self.presenter.extend_list is not None:
            await self.presenter.extend_list(call, organization, items, as_of)
        return list_response(call, items, page, call.services.log.partition_of(organization))

    async def _list_accessible(
        self, call: Call, names: Sequence[str], limit: int, cursor: str | None, as_of: AsOf
    ) -> Response:
        """The organizations a token is good for: few, and in any partition."""
        after = cursor or ""
        chosen = [n for n in names if n > after]
        items: list[dict[str, Any]] = []
        last = None
        for name in chosen:
            if len(items) == limit:
                break
            row = await call.services.read_models.get(self.aggregate, name, name, as_of)
            last = name
            if row is not None:
                items.append(resource(self.aggregate.view, row))
        more = last is not None and last != chosen[-1]
        return json_response(
            200,
            {"items": items, "next_cursor": last if more else None},
            next_link(call, last if more else None),
        )

    async def get(
        self, call: Call, as_of_text: str | None, min_position: str | None, if_none_match: str | None
    ) -> Response:
        organization, name = self._names(call)
        partition = call.services.log.partition_of(organization)
        await wait_for_min_position(call, partition, min_position)
        as_of = await resolve_as_of(call, as_of_text, [partition])
        position = await call.services.read_models.position("resources", partition)
        row = await call.services.read_models.get(self.aggregate, organization, name, as_of)
        if row is None:
            raise not_found(f"{self.aggregate.name} {name[:100]!r}")
        headers = {POSITION: f"{partition}:{position}", "ETag": etag(row)}
        if self.presenter.extend_item is None and matches(if_none_match, headers["ETag"]):
            return RawResponse(304, headers=headers)
        shown = resource(self.aggregate.view, row)
        if self.presenter.extend_item is not None:
            await self.presenter.extend_item(call, organization, shown, as_of)
        return json_response(200, shown, headers)

    async def parts(
        self,
        call: Call,
        part: Part,
        limit: int,
        cursor: str | None,
        as_of_text: str | None,
        min_position: str | None,
    ) -> Response:
        organization, name = self._names(call)
        partition = call.services.log.partition_of(organization)
        await wait_for_min_position(call, partition, min_position)
        as_of = await resolve_as_of(call, as_of_text, [partition])
        models = call.services.read_models
        if await models.get(self.aggregate, organization, name, as_of) is None:
            raise not_found(f"{self.aggregate.name} {name[:100]!r}")
        page = await models.parts(
            self.aggregate,
            part,
            organization,
            name,
            limit=limit,
            cursor=parse_cursor(cursor, 0),
            as_of=as_of,
        )
        return list_response(call, [entry(part, row) for row in page.rows], page, partition)

    async def part(
        self,
        call: Call,
        part: Part,
        key: str,
        as_of_text: str | None,
        min_position: str | None,
        if_none_match: str | None,
    ) -> Response:
        organization, name = self._names(call)
        partition = call.services.log.partition_of(organization)
        await wait_for_min_position(call, partition, min_position)
        as_of = await resolve_as_of(call, as_of_text, [partition])
        models = call.services.read_models
        position = await models.position("resources", partition)
        row = await models.part(self.aggregate, part, organization, name, key, as_of)
        if row is None:
            raise not_found(
                f"{part.plural.removesuffix('s')} {key[:100]!r} of {self.aggregate.name} {name[:100]!r}"
            )
        headers = {POSITION: f"{partition}:{position}", "ETag": f'"{key}"'}
        if matches(if_none_match, headers["ETag"]):
            return RawResponse(304, headers=headers)
        return json_response(200, entry(part, row), headers)

    def _names(self, call: Call) -> tuple[str, str]:
        organization = call.path("org")
        return organization, organization if self.aggregate.top else call.path("name")

    # -- changing

    async def command(
        self, call: Call, route: Route, id: str | None, condition: Precondition, wait: float | None
    ) -> Response:
        draft = CommandDraft({})
        fields: dict[str, Any] = {"organization": call.path("org")}
        if route.method != "POST":
            fields["name"] = self._names(call)[1]
        if route.method != "DELETE":
            draft = await self.presenter.draft_reader(route.command)(call, route.command, fields.get("name"))
            given = _body_fields(fields, draft.fields)
            fields = {**given, **fields}
        data = validated(route.command, fields)
        chosen = draft.chosen if condition.kind == "version" else draft.chosen | {"expected_version"}
        if condition.kind == "version":
            data["expected_version"] = await self._version(call, condition, data)
        handed = await earlier_submission(call, id, data, chosen) if id is not None else None
        waits = bool(wait)
        if route.method == "PUT" and condition.kind in ("none", "new") and waits:
            data["expected_version"] = 0  # who waits is told by the decider whether there is one
        elif handed is None and route.method != "POST" and not (condition.kind == "version" and waits):
            try:
                expected = await self._expected(call, route.method, condition, data)
            except Problem:
                # A twin that came at the same time may have been decided in between.
                handed = await earlier_submission(call, id, data, chosen) if id is not None else None
                if handed is None:
                    raise
            else:
                if expected is not None:
                    data["expected_version"] = expected
        if handed is None:
            handed = await submit(call, route.command, data, id, wait)
        made = route.method == "POST" or condition.kind in ("none", "new")
        try:
            return await self._answer(call, route, handed, made, draft.secret)
        except Problem as problem:
            if condition.kind == "none" and problem.rule == "stale-version":
                raise self._unconditional(call, problem) from problem
            raise

    def _unconditional(self, call: Call, refused: Problem) -> Problem:
        """What a change to something that exists meets without a condition."""
        return Problem(
            428,
            "precondition-required",
            f"{self.aggregate.name} {self._names(call)[1]!r} exists: send If-Match with its ETag, or `*`.",
            headers=refused.headers,
            **refused.members,
        )

    async def _version(self, call: Call, condition: Precondition, data: Mapping[str, Any]) -> int:
        """The version to expect: of several the client would take, the one the resource is at."""
        if len(condition.versions) > 1:
            row = await call.services.read_models.get(self.aggregate, data["organization"], data["name"])
            if row is not None and row.version in condition.versions:
                return row.version
        version = max(condition.versions)
        if version < 0:
            raise stale("No version has such an entity tag.")
        return version

    async def _expected(
        self, call: Call, method: str, condition: Precondition, data: Mapping[str, Any]
    ) -> int | None:
        """The `expected_version` that follows from what is known; the decider checks it once more.

        Raises Problem 404, 412 or 428 when the change is not to be made.
        """
        organization, name = call.path("org"), str(data["name"])
        wanted: int | None = data["expected_version"] if condition.kind == "version" else None
        row = await call.services.read_models.get(self.aggregate, organization, name)
        if row is None or (wanted is not None and row.version < wanted):
            # Read models follow the log: a version they do not know yet may be the present one.
            exists, version = await history.exists_and_version(call, self.aggregate, name)
        else:
            exists, version = True, row.version
        if exists and condition.kind == "none":
            raise Problem(
                428,
                "precondition-required",
                f"{self.aggregate.name} {name!r} exists: send If-Match with its ETag, or `*`.",
                headers={"ETag": f'"{version}"'},
                current_version=version,
            )
        if exists and condition.kind == "new":
            raise stale(f"{self.aggregate.name} {name!r} exists.", version)
        if exists and wanted is not None and wanted != version:
            raise stale(f"{self.aggregate.name} {name!r} is at version {version}, not {wanted}.", version)
        if exists:
            return wanted
        if method == "DELETE":
            raise not_found(f"{self.aggregate.name} {name[:100]!r}")
        if condition.kind in ("any", "version"):
            raise stale(f"{self.aggregate.name} {name!r} does not exist.")
        return 0

    async def _answer(
        self, call: Call, route: Route, handed: Submission, made: bool, secret: Mapping[str, Any]
    ) -> Response:
        partition = call.partition
        outcome = handed.outcome
        if handed.envelope is None:
            secret = {}  # shown once, to the first
        kept_from_caches: Mapping[str, str] = NO_STORE if secret else {}
        if handed.envelope is not None and outcome is None:
            position = await call.services.log.end("events", partition)
            headers = {**accepted_headers(partition, position, handed.id), **kept_from_caches}
            return json_response(202, {**pending(handed.envelope), **secret}, headers)
        assert outcome is not None
        if not outcome.accepted:
            raise await rejection(call, outcome)
        headers = {POSITION: f"{partition}:{outcome.position}", "Preference-Applied": "wait"}
        headers |= kept_from_caches
        if route.method == "DELETE":
            await wait_for_read_model(
                call, partition, outcome.position, call.services.settings.position_seconds
            )
            return json_response(200, operation(outcome), headers)
        row = await row_after(call, outcome, call.services.settings.position_seconds)
        if row is None:
            headers["Location"] = accepted_headers(partition, outcome.position, handed.id)["Location"]
            return json_response(202, {**operation(outcome), **secret}, headers)
        found, _ = resource_of(outcome)
        shown = resource((found or self.aggregate).view, row)
        headers["ETag"] = etag(row)
        new = made and outcome.events > 0
        if route.method == "POST" or new:
            headers["Location"] = "/api/v1/" + outcome.subject
        return json_response(201 if new else 200, {**shown, **secret}, headers)


def _body_fields(path: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the body. What the path or a header says is not said again otherwise."""
    errors = [
        {"pointer": f"/{field}", "detail": f"the path says {path[field]!r}", "rule": "differs-from-path"}
        for field in path
        if field in given and given[field] != path[field]
    ]
    if "expected_version" in given:
        errors.append({"pointer": "/expected_version", "detail": "send If-Match", "rule": "extra-forbidden"})
    if errors:
        raise Problem(422, "invalid-command", "The body is not valid.", errors=errors)
    return dict(given)


def stale(detail: str, version: int = 0) -> Problem:
    headers = {"ETag": f'"{version}"'} if version else {}
    return Problem(412, "stale-version", detail, headers=headers, current_version=version)


def parse_cursor(given: str | None, first: K) -> str | None:
    """The cursor, when it is one of such a list. Raises Problem 400."""
    try:
        read_cursor(given, first)
    except ValueError as error:
        raise Problem(
            400,
            "invalid-parameter",
            "The cursor is not one of ours.",
            errors=[{"parameter": "cursor", "detail": "take it from `next_cursor` or the Link header"}],
        ) from error
    return given


async def wait_for_min_position(call: Call, partition: int, wanted: str | None) -> None:
    """Waits, bounded, for `?min_position=`. Raises Problem 400, and 503 when it is not reached."""
    if wanted is None:
        return
    position = parse_position(wanted, "min_position", partition)
    if position > await call.services.log.end("events", partition):
        raise Problem(
            400,
            "invalid-parameter",
            "No answer named this position yet.",
            errors=[{"parameter": "min_position", "detail": "is beyond the end of the register"}],
        )
    if not await wait_for_read_model(call, partition, position, call.services.settings.position_seconds):
        raise Problem(
            503,
            "position-not-reached",
            f"The read model has not seen position {position} yet.",
            headers={"Retry-After": "1"},
        )


def etag(row: Row) -> str:
    return f'"{row.version}"'


def resource(view: type[Value], row: Row) -> dict[str, Any]:
    """A resource as clients see it: the fields of its view, and `metadata`."""
    document = row.document
    shown: dict[str, Any] = {f: document[f] for f in view.model_fields if f in document}
    shown["name"] = row.name
    shown["metadata"] = _metadata(row)
    return shown


def entry(part: Part, row: Row) -> dict[str, Any]:
    document = row.document
    fields = part.event.model_fields
    shown = {f: document[f] for f in fields if f in document and f != "organization"}
    shown["metadata"] = _metadata(row)
    return shown


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


def list_response(call: Call, items: Sequence[Mapping[str, Any]], page: Page, partition: int) -> Response:
    headers = {POSITION: f"{partition}:{page.position}", **next_link(call, page.next_cursor)}
    return json_response(200, {"items": items, "next_cursor": page.next_cursor}, headers)
