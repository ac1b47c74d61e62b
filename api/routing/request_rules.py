"""Checks of a request before its path operation runs: declared parameters and media types only."""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request

from api.authentication import Principal
from api.preconditions import media_type, preferred
from api.problems import MEDIA_TYPE, Problem, problem_of_status
from schemas.limits import MOST_PARAMETERS
from schemas.text import fault_in, visible


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRules:
    """`query`: each declared query parameter with the only values it takes (empty: any text);
    `produces` and `accepts`: media types of responses and of the body (None: no body)."""

    query: Mapping[str, tuple[str, ...]]
    produces: tuple[str, ...]
    accepts: tuple[str, ...] | None = None

    def check(self, request: Request, principal: Principal | None) -> None:
        """Raises Problem 400, 403, 406 or 415. `principal` is None where no token is needed."""
        organization = request.path_params.get("org")
        if organization is not None and principal is not None and not principal.may_access(organization):
            raise Problem(403, "forbidden", f"The token is not good for the organization {organization!r}.")
        if preferred(request.headers.get("accept"), (*self.produces, MEDIA_TYPE)) is None:
            raise problem_of_status(406, f"Answers here are {', '.join(self.produces)}.")
        self._check_parameters(request)
        if self.accepts is not None:
            self._check_body(request, self.accepts)

    def _check_parameters(self, request: Request) -> None:
        given = request.scope["query_string"]
        if given.count(b"&") >= MOST_PARAMETERS:
            surplus = given.split(b"&", MOST_PARAMETERS)[-1].partition(b"=")[0]
            raise Problem(
                400,
                "too-many-parameters",
                f"Up to {MOST_PARAMETERS} query parameters are taken.",
                errors=[{"parameter": visible(surplus[:50].decode("latin-1")), "detail": "is one too many"}],
            )
        _check_text(request)
        if not given:
            return
        names = [name for name, _ in request.query_params.multi_items()]
        wrong = sorted({n for n in names if n not in self.query or names.count(n) > 1})
        if wrong:
            raise Problem(
                400,
                "unknown-parameter",
                f"Parameters here: {', '.join(sorted(self.query)) or 'none'}; each once.",
                errors=[{"parameter": n[:50], "detail": "unknown, or given twice"} for n in wrong],
            )
        errors = [
            {"parameter": name, "detail": f"{value[:50]!r} is none of {', '.join(self.query[name])}"}
            for name, value in request.query_params.items()
            if self.query[name] and value not in self.query[name]
        ]
        if errors:
            first = errors[0]["parameter"]
            detail = f"`{first}` takes one of: {', '.join(self.query[first])}."
            raise Problem(400, "invalid-parameter", detail, errors=errors)

    @staticmethod
    def _check_body(request: Request, accepted: tuple[str, ...]) -> None:
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise problem_of_status(415, "Send the body without Content-Encoding.")
        media = media_type(request.headers.get("content-type"))
        if media and media not in accepted:
            raise unsupported(accepted)


def unsupported(accepted: tuple[str, ...]) -> Problem:
    listed = ", ".join(accepted)
    return problem_of_status(415, f"Send one of: {listed}.", {"Accept": listed})


def _check_text(request: Request) -> None:
    """Raises Problem 400 with every path segment and parameter that has a character that is not allowed."""
    query = request.query_params.multi_items() if request.scope["query_string"] else ()
    given = (*request.path_params.items(), *query)
    errors = [
        {"parameter": visible(name)[:50], "detail": f"the text {what}"}
        for name, value in given
        if (what := fault_in(value))
    ]
    if errors:
        detail = "Names and values are text in one line, without control characters."
        raise Problem(400, "invalid-parameter", detail, errors=errors)
