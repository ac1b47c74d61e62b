"""The wheel of `signalbox-client`, installed where nothing of the server is."""

import asyncio
import re
import sys
import venv
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from zipfile import ZipFile

import pytest

from schemas.catalog import COMMANDS
from signalbox.settings import kafka_environment
from signalbox_client import commands
from streams.kafka.settings import KafkaSettings
from tests.api.running_api import ADMIN
from tests.client.served import ORGANIZATION, over_http, over_kafka, service_token
from tests.support.running_signalbox import ROOT
from tests.support.toolchains import download, run

CLIENT = ROOT / "clients" / "python"
EXAMPLE = re.search(r"```python\n(.*?)```", (CLIENT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
OVER_HTTP = "Client.http(url, "
OVER_KAFKA = 'Client.kafka(os.environ["SIGNALBOX_KAFKA"], '
SECONDS = 120.0

IMPORT_ALL = """
import pkgutil, sys
import aiokafka.producer.sender, aiokafka.consumer.fetcher, httpx, fastavro
modules = [m for name, m in sys.modules.items() if name.startswith(("aiokafka", "httpx", "fastavro"))]
before = [dict(vars(m)) for m in modules]
import signalbox_client
for module in pkgutil.walk_packages(signalbox_client.__path__, "signalbox_client."):
    __import__(module.name)
changed = [m.__name__ for m, b in zip(modules, before) if any(vars(m).get(k) is not v for k, v in b.items())]
sys.exit(f"patched: {changed}" if changed else 0)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", into]
    ran = asyncio.run(run(build, cwd=CLIENT, seconds=SECONDS))
    assert ran.code == 0, ran.err
    (built,) = into.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the wheel with its extras, and nothing else."""
    where = tmp_path_factory.mktemp("environment")
    venv.create(where, with_pip=False)
    interpreter = where / "bin" / "python"
    versions = where / "constraints.txt"
    versions.write_text("".join(f"{d.name}=={d.version}\n" for d in distributions() if d.name != "signalbox"))
    pip = [sys.executable, "-m", "pip", "--python", interpreter, "install", "--quiet", "--no-compile"]
    asyncio.run(download([*pip, "--constraint", versions, f"{wheel}[http,kafka]"], where))
    return interpreter


def test_the_wheel_has_one_package(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"signalbox_client"}
    assert "signalbox_client/py.typed" in names


def test_every_command_can_be_imported_from_the_client() -> None:
    assert {model.__name__ for model in COMMANDS.values()} <= set(commands.__all__)


@pytest.mark.real
async def test_every_module_can_be_imported_and_patches_nothing(python: Path, tmp_path: Path) -> None:
    ran = await run([python, "-I", "-c", IMPORT_ALL], cwd=tmp_path, seconds=SECONDS)
    assert (ran.code, ran.err) == (0, "")


async def example(python: Path, cwd: Path, connected: str, environment: Mapping[str, str]) -> str:
    """What the README's example prints when it is run in the environment."""
    assert EXAMPLE is not None
    code = EXAMPLE[1].replace(OVER_HTTP, connected).replace('"default"', f'"{ORGANIZATION}"')
    ran = await run([python, "-I", "-c", code], cwd=cwd, seconds=SECONDS, environment=environment)
    assert ran.code == 0, ran.err
    return ran.out.strip()


@pytest.mark.real
async def test_the_example_publishes_a_command_over_http(python: Path, tmp_path: Path) -> None:
    async with over_http(tmp_path) as served:
        environment = {"SIGNALBOX_URL": served.url, "SIGNALBOX_TOKEN": ADMIN}
        assert await example(python, tmp_path, OVER_HTTP, environment) == "accepted: version 1"


async def test_the_example_publishes_a_command_over_kafka(
    python: Path, tmp_path: Path, kafka_settings: KafkaSettings
) -> None:
    async with over_kafka(kafka_settings, tmp_path):
        environment = {"SIGNALBOX_URL": "", "SIGNALBOX_TOKEN": service_token(tmp_path)}
        environment |= kafka_environment(kafka_settings)
        assert await example(python, tmp_path, OVER_KAFKA, environment) == "accepted: version 1"
