"""Redocly and Spectral have no warnings about the OpenAPI and AsyncAPI documents that the API serves."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.api.running_api import RunningApi
from tests.support.hang_guard import HANG_SECONDS
from tests.support.node_packages import node_packages
from tests.support.toolchains import run

RULES = Path(__file__).parent / "openapi_lint"
OFFLINE = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
"""Nothing listens there."""
ENVIRONMENT = {**OFFLINE, "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def programs() -> Path:
    return node_packages(RULES)


@pytest.fixture
async def documents(signalbox: RunningApi, tmp_path: Path) -> Path:
    """A directory with the served documents, and `damaged.json`, an OpenAPI document with two faults."""
    for name in ("openapi.json", "asyncapi.json"):
        reply = await signalbox.client.get(f"/{name}")
        (tmp_path / name).write_bytes(reply.content)
    damaged = orjson.loads((tmp_path / "openapi.json").read_bytes())
    del damaged["info"]["license"], damaged["servers"]
    (tmp_path / "damaged.json").write_bytes(orjson.dumps(damaged))
    return tmp_path


async def lint(cwd: Path, *command: str | Path) -> Any:
    ran = await run(command, cwd=cwd, seconds=HANG_SECONDS, environment=ENVIRONMENT)
    try:
        return orjson.loads(ran.out)
    except orjson.JSONDecodeError:
        pytest.fail(f"no JSON: {ran.out}{ran.err}")


async def test_redocly_has_no_warnings(programs: Path, documents: Path) -> None:
    command = (programs / "redocly", "lint", "--config", RULES / "redocly.yaml", "--format=json")
    assert (await lint(documents, *command, "openapi.json"))["problems"] == []
    assert (await lint(documents, *command, "damaged.json"))["problems"] != []


async def test_spectral_has_no_warnings(programs: Path, documents: Path) -> None:
    files = ("openapi.json", "asyncapi.json", "damaged.json")
    rules = ("--ruleset", RULES / "spectral.yaml", "--fail-severity", "warn", "--display-only-failures")
    found = await lint(documents, programs / "spectral", "lint", *files, *rules, "--format", "json")
    problems = [(p["source"], p["code"], p["message"], p["path"]) for p in found]
    assert {Path(file).name for file, *_ in problems} == {"damaged.json"}, problems
