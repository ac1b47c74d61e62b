"""For any request, the answer is a documented one, and never a server error."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from signalbox.http.server import HttpServer
from signalbox.settings import Address
from tests.api.running_api import ADMIN, running_api
from tests.api.test_openapi import DOCUMENT
from tests.support.free_ports import free_port
from tests.support.hang_guard import HANG_SECONDS
from tests.support.laws import SLOW, examples

EXAMPLES = 12
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]

schema = schemathesis.openapi.from_dict(DOCUMENT)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The whole stack behind our own HTTP server, in a thread of its own."""
    directory: Path = tmp_path_factory.mktemp("fuzz")
    where = Address("127.0.0.1", free_port())
    loop = asyncio.new_event_loop()
    started, ended = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with running_api(directory) as made:
            server = HttpServer(made.app, where)
            await server.start()
            started.set()
            await ended.wait()
            await server.stop()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert started.wait(HANG_SECONDS)
    yield where.url
    loop.call_soon_threadsafe(ended.set)
    thread.join(HANG_SECONDS)
    assert not thread.is_alive()
    loop.close()


@schema.parametrize()
@settings(examples(EXAMPLES, SLOW), derandomize=True, database=None)
def test_every_operation_answers_as_documented(case: schemathesis.Case, address: str) -> None:
    if isinstance(case.body, dict) and "wait" in case.body:
        case.body["wait"] = 0  # nothing here will ever be acknowledged
    case.call_and_validate(
        base_url=address, headers={"Authorization": f"Bearer {ADMIN}"}, checks=CHECKS, timeout=HANG_SECONDS
    )
