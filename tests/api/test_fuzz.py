"""Whatever anybody sends, the answer is one that is documented, and never a failure of ours."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.api.house import ADMIN, house
from tests.api.test_openapi import DOCUMENT
from tests.hang_guard import HANG_SECONDS

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
    """The whole stack behind a real HTTP server on a free port, in a thread of its own."""
    directory: Path = tmp_path_factory.mktemp("fuzz")
    found: list[Any] = []
    started = threading.Event()

    async def serve() -> None:
        async with house(directory) as made:
            config = uvicorn.Config(made.app, log_level="warning", lifespan="off")
            server = uvicorn.Server(config)
            listening = socket.create_server(("127.0.0.1", 0))
            found.extend((listening.getsockname()[1], server))
            started.set()  # whoever connects from here on waits in the backlog
            await server.serve([listening])

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(HANG_SECONDS)
    port, server = found
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(HANG_SECONDS)
    assert not thread.is_alive()


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_every_operation_answers_as_documented(case: schemathesis.Case, address: str) -> None:
    if isinstance(case.body, dict) and "wait" in case.body:
        case.body["wait"] = 0  # nothing here will ever be acknowledged
    case.call_and_validate(
        base_url=address, headers={"Authorization": f"Bearer {ADMIN}"}, checks=CHECKS, timeout=HANG_SECONDS
    )
