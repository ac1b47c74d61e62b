"""The access log: requests that the gateway answered itself, with the reason.

Answers of upstreams are not in it. Neither is the query of a path, which may contain secrets. The path is the
one for the upstream, where a route had one; `api` names the API of the route.
"""

from functools import lru_cache

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog, AccessLogFilter, ExtensionFilter
from envoy_data_plane.envoy.config.core.v3 import SubstitutionFormatString
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3 import ExpressionFilter
from envoy_data_plane.envoy.extensions.access_loggers.stream.v3 import StdoutAccessLog
from envoy_data_plane.google.protobuf import Struct

from xds.encoding import any_of, build

_OWN = "response.code_details != 'via_upstream' && response.code != 204"
"""Probes are answered with 204, and no other local reply is."""

FIELDS = {
    "time": "%START_TIME%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "method": "%REQ(:METHOD)%",
    "host": "%REQ(:AUTHORITY)%",
    "path": "%PATH(NQ:PATH)%",
    "api": "%RESP(X-SIGNALBOX-REVISION)%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "reason": "%RESPONSE_CODE_DETAILS%",
    "upstream": "%UPSTREAM_HOST%",
    "failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "milliseconds": "%DURATION%",
    "request": "%REQ(X-REQUEST-ID)%",
}
"""The fields of each line, which is a JSON object; null or `-` where a value is unknown."""


@lru_cache(maxsize=1)
def access_log() -> AccessLog:
    own = build(
        ExtensionFilter,
        name="envoy.access_loggers.extension_filters.cel",
        typed_config=any_of(build(ExpressionFilter, expression=_OWN)),
    )
    lines = build(SubstitutionFormatString, json_format=Struct.from_dict(FIELDS))
    return build(
        AccessLog,
        name="envoy.access_loggers.stdout",
        filter=build(AccessLogFilter, extension_filter=own),
        typed_config=any_of(build(StdoutAccessLog, log_format=lines)),
    )
