"""Whether the process lives, whether it is ready, and its metrics."""

import re

from starlette.types import ASGIApp

from api.endpoint import Call
from api.problems import Problem
from api.responses import RawResponse, json_response

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
HTML = "text/html; charset=utf-8"

_ROOT = b"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Signalbox</title>
<h1>Signalbox</h1>
<p>The control plane is here. Its interface is described in <a href="/openapi.json">/openapi.json</a>,
its topics in <a href="/asyncapi.json">/asyncapi.json</a>; whether it is ready says
<a href="/healthz/ready">/healthz/ready</a>.</p>
</html>
"""


_PATH = re.compile(r"""(?<![\w/:.])/(?:[^\s:;,'"()/]+/)*([^\s:;,'"()/]+)""")


def without_paths(reason: str) -> str:
    """A reason as anybody may read it: of files their names, not where they are."""
    return _PATH.sub(r"\1", reason)


async def live(call: Call) -> ASGIApp:
    return json_response(200, {"status": "live"})


async def ready(call: Call) -> ASGIApp:
    reason = call.services.ready()
    if reason is not None:
        raise Problem(503, "not-ready", without_paths(reason), headers={"Retry-After": "1"})
    return json_response(200, {"status": "ready"})


async def metrics(call: Call) -> ASGIApp:
    """Of all organizations together. Raises Problem 403 for a token that is good for some of them."""
    if call.principal.organizations is not None:
        raise Problem(403, "forbidden", "Metrics concern every organization; this token is for some.")
    return RawResponse(200, call.services.metrics(), {"Cache-Control": "no-store"}, PROMETHEUS)


async def root(call: Call) -> ASGIApp:
    return RawResponse(200, _ROOT, {"Content-Security-Policy": "default-src 'none'"}, HTML)
