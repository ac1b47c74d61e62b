"""Local replies of the gateway: problem documents (RFC 9457) and the probe."""

import json
from collections.abc import Iterable

from envoy_data_plane.envoy.config.core.v3 import DataSource
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    HeaderMatcher,
    Route,
    RouteMatch,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from gateways.model import DeployedApi, GatewaySettings
from xds.encoding import Encoded, encoded
from xds.translate.headers import header
from xds.translate.names import DEPLOYMENT_HEADER, PROBE_HEADER, REVISION_HEADER
from xds.translate.paths import literal_path

PROBLEM = "application/problem+json"

_PROBLEM_HEADER = header("content-type", PROBLEM)


def problem(status: int, title: str, detail: str) -> str:
    """A problem document; `status` is also the status of the reply."""
    return json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail})


def _refusal(status: int, title: str, detail: str) -> Encoded:
    body = encoded(DataSource, inline_string=problem(status, title, detail))
    return encoded(DirectResponseAction, status=status, body=body)


_NOT_FOUND = _refusal(404, "Not Found", "This API has no such path.")
_NOT_ALLOWED = _refusal(405, "Method Not Allowed", "This path has other methods; see Allow.")


def not_found(api: DeployedApi) -> Encoded:
    """404 for all paths below an API's context that no other route matches."""
    return encoded(
        Route,
        match=encoded(RouteMatch, path_separated_prefix=literal_path(api.context)),
        direct_response=_NOT_FOUND,
        response_headers_to_add=[_PROBLEM_HEADER],
    )


def not_allowed(match: Encoded, methods: Iterable[str]) -> Encoded:
    """405 for a known path and another method."""
    return encoded(
        Route,
        match=match,
        direct_response=_NOT_ALLOWED,
        response_headers_to_add=[_PROBLEM_HEADER, header("allow", ", ".join(sorted(methods)))],
    )


def probe(settings: GatewaySettings, api: DeployedApi) -> Encoded:
    """Answers callers that know the gateway's secret with the revision and deployment that serve here."""
    secret = encoded(
        HeaderMatcher, name=PROBE_HEADER, string_match=encoded(StringMatcher, exact=settings.probe_secret)
    )
    revision = [] if settings.revision_header else [revision_header(api)]
    return encoded(
        Route,
        match=encoded(RouteMatch, path_separated_prefix=literal_path(api.context), headers=[secret]),
        direct_response=encoded(DirectResponseAction, status=204),
        response_headers_to_add=[*revision, header(DEPLOYMENT_HEADER, api.deployment)],
    )


def revision_header(api: DeployedApi) -> Encoded:
    return header(REVISION_HEADER, f"{api.api}@{api.revision}")
