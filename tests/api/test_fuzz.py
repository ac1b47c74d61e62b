"""For any request, the answer is a documented one, and never a server error."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from signalbox.http.server import HttpServer
from signalbox.settings import Address
from tests.api.running_api import ADMIN, running_api
from tests.api.test_openapi import DOCUMENT
from tests.support.free_ports import free_port
from tests.support.hang_guard import HANG_SECONDS
from tests.support.laws import QUICK, SLOW, examples

if TYPE_CHECKING:
    from schemathesis import Case

EXAMPLES = 12
OPERATIONS = [f"{method.upper()} {path}" for path, methods in DOCUMENT["paths"].items() for method in methods]

# Schemathesis's own plugin for pytest makes the cases of all operations when tests are collected, in each
# process of a run; so it is switched off, and the cases of an operation are made when its test runs.


@pytest.fixture(scope="module")
def law() -> Callable[[str], Callable[..., None]]:
    """For an operation, its law, which is called with the address."""
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.generation.feedback import NO_FEEDBACK
    from schemathesis.pytest._test_builder import build_operation_test
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
    ]
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    schema.config.phases.coverage.enabled = not QUICK

    @settings(examples(EXAMPLES, SLOW), derandomize=True, database=None)
    def answers_as_documented(case: "Case", address: str) -> None:
        if isinstance(case.body, dict) and "wait" in case.body:
            case.body["wait"] = 0  # nothing here will ever be acknowledged
        case.call_and_validate(
            base_url=address,
            headers={"Authorization": f"Bearer {ADMIN}"},
            checks=checks,
            timeout=HANG_SECONDS,
        )

    def of(label: str) -> Callable[..., None]:
        operation = schema.find_operation_by_label(label)
        assert operation is not None
        return build_operation_test(
            config=schema.config,
            operation=operation,
            test_func=answers_as_documented,
            given_kwargs={},
            feedback=NO_FEEDBACK,
        )

    return of


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


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_answers_as_documented(
    law: Callable[[str], Callable[..., None]], address: str, operation: str
) -> None:
    law(operation)(address=address)
