"""A large number of odd HTTP requests to a Signalbox."""

import asyncio
import tempfile
from pathlib import Path

import orjson

from bench.figure import Figure
from tests.support.odd_requests import MARKER, Caller, attack, paths_of
from tests.support.running_signalbox import RunningSignalbox

COUNT = 100_000


def run() -> list[Figure]:
    with tempfile.TemporaryDirectory() as directory:
        harness = RunningSignalbox(Path(directory) / "data")
        try:
            harness.up("--no-envoy")
            harness.ask("PUT", "/projects/secret", {"display_name": MARKER}, prefer="wait=10")
            document = orjson.loads(harness.connection().ask("GET", "/openapi.json")[2])
            callers = [Caller(""), Caller("Bearer wrong"), Caller(f"Bearer {harness.token}", entitled=True)]
            seen = asyncio.run(attack(harness.http, COUNT, callers, paths_of(document)))
            for request, said in seen.failures[:3]:
                print(request[:500], said[:500])
        finally:
            harness.raze()
    return [
        Figure("odd requests: answers", seen.statuses.total(), "answers", COUNT, most=False),
        Figure("odd requests: 5xx", len(seen.failures), "answers", 0),
        Figure("odd requests: answers with data that the caller may not read", len(seen.leaks), "answers", 0),
    ]
