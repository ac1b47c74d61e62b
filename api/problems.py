"""Errors as `application/problem+json` (RFC 9457): one table of rules and statuses, no internal details."""

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException

from api.responses import RawResponse, json_response
from schemas.limits import LONGEST_DETAIL, LONGEST_POINTER, MOST_COUNTED, MOST_LISTED
from schemas.outcome import Outcome, pointer

TYPE = "https://signalbox.io/problems/"
MEDIA_TYPE = "application/problem+json"

_PATH = re.compile(r"""(?<![\w/:.])/(?:[^\s:;,'"()/]+/)*([^\s:;,'"()/]+)""")

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
"""The status of a rejected command by its rule; `REJECTED` for all other rules."""

Error = dict[str, Any]
"""One entry of `errors`: `pointer` (RFC 6901), `detail`, and optional members such as `line`."""


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


def placed(problem: Problem, parameters: Mapping[str, str]) -> Problem:
    """The problem, with the parameter instead of the pointer for each field that a parameter set."""
    errors: dict[tuple[str, str], Error] = {}
    for error in problem.errors:
        parameter = parameters.get(error.get("pointer", ""))
        if parameter is not None:
            error = {"parameter": parameter, **{k: v for k, v in error.items() if k != "pointer"}}
        errors.setdefault((parameter or error.get("pointer", ""), error["detail"]), error)
    problem.errors = tuple(errors.values())
    return problem


def title(rule: str) -> str:
    return rule.replace("-", " ").capitalize()


def problem_of_status(status: int, detail: str = "", headers: Mapping[str, str] | None = None) -> Problem:
    """A problem without a rule of its own: the rule is the phrase of its HTTP status."""
    phrase = HTTPStatus(status).phrase
    return Problem(status, phrase.lower().replace(" ", "-"), detail or f"{phrase}.", headers=headers)


def invalid_parameter(parameter: str, sentence: str, detail: str) -> Problem:
    """A parameter of the request is not valid; `detail` is about the given value."""
    return Problem(400, "invalid-parameter", sentence, errors=[{"parameter": parameter, "detail": detail}])


def invalid_body(*errors: Error) -> Problem:
    return Problem(422, "invalid-command", "The body is not valid.", errors=errors)


def not_found(what: str) -> Problem:
    return Problem(404, "not-found", f"There is no {what}.")


def _cut(error: Error) -> Error:
    """Cuts long texts: a name that the client chose may be as long as its body."""
    cut = {
        name: text[:most]
        for name, most in (("pointer", LONGEST_POINTER), ("detail", LONGEST_DETAIL))
        if isinstance(text := error.get(name), str) and len(text) > most
    }
    return {**error, **cut} if cut else error


def problem_of_validation(error: ValidationError) -> Problem:
    """All errors of pydantic, each with its JSON pointer into the body; of very many, only their number."""
    if (count := error.error_count()) > MOST_COUNTED:
        more = {"pointer": "", "detail": f"{count:,} errors are not listed"}
        return invalid_body(more)
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return invalid_body(*(body_error(e["loc"], e["msg"], e["type"]) for e in found))


def body_error(location: tuple[int | str, ...], message: str, type: str) -> Error:
    """An error of pydantic about the body."""
    return {"pointer": pointer(location), "detail": message, "rule": type.replace("_", "-")}


def not_ready(reason: str) -> Problem:
    """The problem of a process that is not ready; paths in the reason are cut to the file name."""
    detail = _PATH.sub(r"\1", reason)
    return Problem(503, "not-ready", detail, headers={"Retry-After": "1"})


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
