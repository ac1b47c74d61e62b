"""Errors as `application/problem+json` (RFC 9457): one table of rules and statuses, nothing internal."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from api.responses import RawResponse, json_response
from schemas.limits import LONGEST_DETAIL, LONGEST_POINTER, MOST_COUNTED, MOST_LISTED
from schemas.outcome import Outcome, pointer

TYPE = "https://signalbox.io/problems/"
MEDIA_TYPE = "application/problem+json"

REJECTED = 422
STATUS_OF_RULE: Mapping[str, int] = MappingProxyType(
    {
        "not-found": 404,
        "already-exists": 409,
        "in-use": 409,
        "context-taken": 409,
        "kind-is-fixed": 409,
        "stale-version": 412,
    }
)
"""What a rejected command is answered with; `REJECTED` when its rule is not named here."""

Error = dict[str, Any]
"""One entry of `errors`: `pointer` (RFC 6901), `detail`, and what else is known of the place."""


class Problem(HTTPException):
    """An error response. `rule` ends its `type` URI and never changes."""

    def __init__(
        self,
        status: int,
        rule: str,
        detail: str,
        *,
        errors: Iterable[Error] = (),
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(status, detail)
        self.status = status
        self.rule = rule
        self.errors = tuple(errors)
        self.headers: dict[str, str] = dict(headers) if headers else {}
        self.members = members

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "type": TYPE + self.rule,
            "title": title(self.rule),
            "status": self.status,
            "detail": self.detail,
            **self.members,
        }
        if self.errors:
            listed = [_cut(error) for error in self.errors[:MOST_LISTED]]
            if (more := len(self.errors) - MOST_LISTED) > 0:
                listed.append({"pointer": "", "detail": f"{more:,} more errors are not listed"})
            document["errors"] = listed
        return document

    def response(self) -> RawResponse:
        return json_response(self.status, self.document(), self.headers, MEDIA_TYPE)


def title(rule: str) -> str:
    return rule.replace("-", " ").capitalize()


def problem_of_status(status: int, detail: str = "", headers: Mapping[str, str] | None = None) -> Problem:
    """A problem that says no more than its HTTP status."""
    phrase = HTTPStatus(status).phrase
    return Problem(status, phrase.lower().replace(" ", "-"), detail or f"{phrase}.", headers=headers)


def not_found(what: str) -> Problem:
    return Problem(404, "not-found", f"There is no {what}.")


def _cut(error: Error) -> Error:
    """A name that the client chose may be as long as its body."""
    cut = {
        name: text[:most]
        for name, most in (("pointer", LONGEST_POINTER), ("detail", LONGEST_DETAIL))
        if isinstance(text := error.get(name), str) and len(text) > most
    }
    return {**error, **cut} if cut else error


def problem_of_validation(error: ValidationError) -> Problem:
    """Every complaint of pydantic, each with its JSON pointer into the body; of very many, how many."""
    if (count := error.error_count()) > MOST_COUNTED:
        more = {"pointer": "", "detail": f"{count:,} errors are not listed"}
        return Problem(422, "invalid-command", "The body is not valid.", errors=[more])
    errors = [
        {"pointer": pointer(e["loc"]), "detail": e["msg"], "rule": e["type"].replace("_", "-")}
        for e in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return Problem(422, "invalid-command", "The body is not valid.", errors=errors)


def problem_of_request(error: RequestValidationError) -> Problem:
    """What FastAPI found wrong with parameters (400), or with the body (422)."""
    found = [(e["loc"][0], e["loc"][1:], e) for e in error.errors()]
    parameters = [
        {"parameter": str(loc[0])[:50], "detail": e["msg"]} for where, loc, e in found if where != "body"
    ]
    if parameters:
        detail = f"`{parameters[0]['parameter']}` is not valid."
        return Problem(400, "invalid-parameter", detail, errors=parameters)
    errors = [
        {"pointer": pointer(loc), "detail": e["msg"], "rule": e["type"].replace("_", "-")}
        for _, loc, e in found
    ]
    return Problem(422, "invalid-command", "The body is not valid.", errors=errors)


def problem_of_outcome(outcome: Outcome, **members: Any) -> Problem:
    """The problem of a command that was rejected."""
    return Problem(
        STATUS_OF_RULE.get(outcome.rule, REJECTED),
        outcome.rule,
        outcome.message,
        errors=[{"pointer": e.pointer, "detail": e.detail} for e in outcome.errors],
        command=outcome.name,
        **members,
    )


def unavailable(detail: str, **members: Any) -> Problem:
    return Problem(503, "unavailable", detail, headers={"Retry-After": "2"}, **members)
