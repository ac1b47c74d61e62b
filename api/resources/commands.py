"""Changes of the resources of any aggregate: commands, with the preconditions of HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from api.call import Call
from api.preconditions import SEND_ETAG, Precondition
from api.problems import Error, Problem, invalid_body, not_found, placed
from api.resources import history
from api.resources.presenter import Presenter
from api.resources.queries import etag, names_in_path, resource
from api.responses import NO_STORE, POSITION, json_response
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
from schemas.aggregate import Aggregate, Route

_SEND_ETAG: Error = {"parameter": "If-Match", "detail": SEND_ETAG}
_CREATE: Error = {"parameter": "If-Match", "detail": "Leave it out to create the resource"}
_CREATE_ONLY: Error = {"parameter": "If-None-Match", "detail": "Send If-Match to change what exists"}


@dataclass(frozen=True, slots=True)
class ResourceCommands:
    """The changes of one aggregate."""

    aggregate: Aggregate
    presenter: Presenter

    async def run(
        self, call: Call, route: Route, id: str | None, condition: Precondition, wait: float | None
    ) -> Response:
        try:
            return await self._run(call, route, id, condition, wait)
        except Problem as problem:
            if problem.rule == "stale-version" and "parameter" not in next(iter(problem.errors), ()):
                problem.errors = (_CREATE_ONLY if condition.kind == "new" else _SEND_ETAG,)
            raise

    def _parameters(self, route: Route) -> dict[str, str]:
        """The parameters that set fields of the command, by the pointers to these."""
        given = {"/organization": "org"}
        if route.method != "POST":
            given["/name"] = "org" if self.aggregate.top else "name"
        return given

    async def _run(
        self, call: Call, route: Route, id: str | None, condition: Precondition, wait: float | None
    ) -> Response:
        draft = CommandDraft({})
        fields: dict[str, Any] = {"organization": call.path("org")}
        if route.method != "POST":
            fields["name"] = names_in_path(self.aggregate, call)[1]
        if route.method != "DELETE":
            draft = await self.presenter.draft_reader(route.command)(call, route.command, fields.get("name"))
            given = _body_fields(fields, draft.fields)
            fields = {**given, **fields}
        try:
            data = validated(route.command, fields)
        except Problem as problem:
            raise placed(problem, self._parameters(route)) from problem.__cause__
        chosen = draft.chosen if condition.kind == "version" else draft.chosen | {"expected_version"}
        if condition.kind == "version":
            data["expected_version"] = await self._version(call, condition, data)
        handed = await earlier_submission(call, id, data, chosen) if id is not None else None
        waits = bool(wait)
        if route.method == "PUT" and condition.kind in ("none", "new") and waits:
            data["expected_version"] = 0  # the outcome then shows whether it exists
        elif handed is None and route.method != "POST" and not (condition.kind == "version" and waits):
            try:
                expected = await self._expected(call, route.method, condition, data)
            except Problem:
                # A concurrent request with the same id may have been decided in between.
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
            answer = await self._answer(call, route, handed, made, draft.secret)
        except Problem as problem:
            if condition.kind == "none" and problem.rule == "stale-version":
                name = names_in_path(self.aggregate, call)[1]
                raise self._exists(name, problem.headers, problem.members) from problem
            raise
        if wait is not None and handed.outcome is not None:
            answer.headers["Preference-Applied"] = "wait"
        return answer

    def _exists(self, name: str, headers: Mapping[str, str], members: Mapping[str, Any]) -> Problem:
        """The problem for a change without a condition of an existing resource."""
        detail = f"{self.aggregate.name} {name!r} exists: send If-Match with its ETag, or `*`."
        return Problem(428, "precondition-required", detail, errors=[_SEND_ETAG], headers=headers, **members)

    async def _version(self, call: Call, condition: Precondition, data: Mapping[str, Any]) -> int:
        """The expected version: if the client accepts several, the one that the resource is at."""
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
        """The `expected_version` by the read model or the log; the decider checks it once more.

        Raises Problem 404, 412 or 428 if the resource does not fulfil the condition.
        """
        organization, name = call.path("org"), str(data["name"])
        wanted: int | None = data["expected_version"] if condition.kind == "version" else None
        # For `any` it need only exist; one that ended is never answered before the read models have it.
        late = condition.kind == "any"
        row = await call.services.read_models.get(self.aggregate, organization, name, late=late)
        if row is None or (wanted is not None and row.version < wanted):
            # Read models lag behind the log, which may have a newer version.
            exists, version = await history.exists_and_version(call, self.aggregate, name)
        else:
            exists, version = True, row.version
        if exists and condition.kind == "none":
            raise self._exists(name, {"ETag": f'"{version}"'}, {"current_version": version})
        if exists and condition.kind == "new":
            raise stale(f"{self.aggregate.name} {name!r} exists.", version, _CREATE_ONLY)
        if exists and wanted is not None and wanted != version:
            raise stale(f"{self.aggregate.name} {name!r} is at version {version}, not {wanted}.", version)
        if exists:
            return wanted
        if method == "DELETE":
            raise not_found(f"{self.aggregate.name} {name[:100]!r}")
        if condition.kind in ("any", "version"):
            raise stale(f"{self.aggregate.name} {name!r} does not exist.", error=_CREATE)
        return 0

    async def _answer(
        self, call: Call, route: Route, handed: Submission, made: bool, secret: Mapping[str, Any]
    ) -> Response:
        partition = call.partition
        outcome = handed.outcome
        if handed.envelope is None:
            secret = {}  # only the first response has it
        kept_from_caches: Mapping[str, str] = NO_STORE if secret else {}
        if handed.envelope is not None and outcome is None:
            position = await call.services.log.end("events", partition)
            headers = {**accepted_headers(partition, position, handed.id), **kept_from_caches}
            return json_response(202, {**pending(handed.envelope), **secret}, headers)
        assert outcome is not None
        if not outcome.accepted:
            raise placed(await rejection(call, outcome), self._parameters(route))
        headers = {POSITION: f"{partition}:{outcome.position}", **kept_from_caches}
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
    """The fields of the body. Raises Problem 422 where they contradict the path or repeat a header."""
    errors = [
        {"pointer": f"/{field}", "detail": f"the path has {path[field]!r}", "rule": "differs-from-path"}
        for field in path
        if field in given and given[field] != path[field]
    ]
    if "expected_version" in given:
        errors.append({"pointer": "/expected_version", "detail": "send If-Match", "rule": "extra-forbidden"})
    if errors:
        raise invalid_body(*errors)
    return dict(given)


def stale(detail: str, version: int = 0, error: Error = _SEND_ETAG) -> Problem:
    headers = {"ETag": f'"{version}"'} if version else {}
    return Problem(412, "stale-version", detail, errors=[error], headers=headers, current_version=version)
