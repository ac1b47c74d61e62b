"""Local replies of Envoy, as problem documents for the caller."""

from collections.abc import Iterable

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLogFilter,
    ComparisonFilter,
    ComparisonFilterOp,
    HeaderFilter,
    ResponseFlagFilter,
    StatusCodeFilter,
)
from envoy_data_plane.envoy.config.core.v3 import DataSource, RuntimeUInt32, SubstitutionFormatString
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    LocalReplyConfig,
    ResponseMapper,
)

from xds.encoding import build
from xds.translate.answers import PROBLEM, problem
from xds.translate.listener.headers import several_hosts

_BY_FLAG = (
    (("NR",), 404, "Not Found", "No API is served here."),
    (
        ("UH", "UF", "UC", "UO", "URX", "LR", "UR", "NC", "DF"),
        503,
        "Service Unavailable",
        "The upstream cannot be reached.",
    ),
    (("UT", "SI"), 504, "Gateway Timeout", "The upstream did not answer in time."),
    (("UPE",), 502, "Bad Gateway", "The upstream's answer is not valid HTTP."),
    (("OM",), 503, "Service Unavailable", "The gateway is overloaded."),
)
"""Local replies by Envoy's response flag."""

_BY_STATUS = (
    (400, "Bad Request", "The request is not valid HTTP, or not accepted here."),
    (408, "Request Timeout", "The request did not arrive in time."),
    (413, "Content Too Large", "The request's body is too large."),
    (426, "Upgrade Required", "The request's version of HTTP is too old."),
    (431, "Request Header Fields Too Large", "The request's headers are too large."),
    (502, "Bad Gateway", "The upstream's answer is not valid HTTP."),
    (503, "Service Unavailable", "The gateway cannot answer now."),
    (504, "Gateway Timeout", "The upstream did not answer in time."),
)
"""Local replies without a flag. Those of routes (404, 405) are problem documents already."""

_DENIED = 403
"""The reply of the filter for upstream addresses. No other local reply has it."""


def local_replies() -> LocalReplyConfig:
    """The mappers of local replies; Envoy applies the first that matches."""
    return build(LocalReplyConfig, mappers=list(_mappers()))


def _mappers() -> Iterable[ResponseMapper]:
    hosts = build(AccessLogFilter, header_filter=build(HeaderFilter, header=several_hosts()))
    yield _mapper(hosts, 400, "Bad Request", "The request has more than one Host.", changed=True)
    for flags, status, title, detail in _BY_FLAG:
        flagged = build(ResponseFlagFilter, flags=list(flags))
        yield _mapper(build(AccessLogFilter, response_flag_filter=flagged), status, title, detail)
    denied = "The gateway may not send requests to this upstream."
    yield _mapper(_status(_DENIED), 502, "Bad Gateway", denied, changed=True)
    for status, title, detail in _BY_STATUS:
        yield _mapper(_status(status), status, title, detail)


def _status(status: int) -> AccessLogFilter:
    value = build(RuntimeUInt32, default_value=status, runtime_key="signalbox.local_reply")
    comparison = build(ComparisonFilter, op=ComparisonFilterOp.EQ, value=value)
    return build(AccessLogFilter, status_code_filter=build(StatusCodeFilter, comparison=comparison))


def _mapper(
    given: AccessLogFilter, status: int, title: str, detail: str, *, changed: bool = False
) -> ResponseMapper:
    """`changed`: `status` becomes the status of the reply."""
    text = build(DataSource, inline_string=problem(status, title, detail))
    return build(
        ResponseMapper,
        filter=given,
        status_code=status if changed else None,
        body_format_override=build(SubstitutionFormatString, text_format_source=text, content_type=PROBLEM),
    )
