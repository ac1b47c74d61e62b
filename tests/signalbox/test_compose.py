"""The compose files run what there is: every command is one that the command line takes."""

import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from signalbox.cli.root import signalbox
from signalbox.roles import ROLES
from signalbox.settings import from_environment, require_services
from tests.support.running_signalbox import ROOT

Services = dict[str, dict[str, Any]]


def services(file: str) -> Services:
    return yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))["services"]


def dockerfile_command() -> list[str]:
    (line,) = re.findall(r"^CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    return yaml.safe_load(line)


def parsed(words: list[str]) -> tuple[click.Command, dict[str, Any]]:
    """What the command line makes of `signalbox WORDS`, without doing it. Raises click.UsageError."""
    group = click.Context(signalbox)
    _, command, rest = signalbox.resolve_command(group, list(words))
    assert command is not None
    return command, command.make_context(words[0], rest, parent=group).params


def test_each_role_is_a_service_of_its_own() -> None:
    roles = [parsed(services("docker-compose.yml")[name]["command"])[1]["roles"] for name in ROLES]
    assert roles == [(name,) for name in ROLES]


@pytest.mark.parametrize("name", ROLES)
def test_a_role_gets_settings_it_can_start_with(name: str) -> None:
    service = services("docker-compose.yml")[name]
    environment = {k: re.sub(r"\$\{(\w+):\?[^}]*\}", "s3cret", v) for k, v in service["environment"].items()}
    options = {k: v for k, v in parsed(service["command"])[1].items() if k != "roles"}
    settings = from_environment(environment, engine="kafka", **options)
    require_services(settings, [name])
    assert settings.health is not None
    assert f"http://{settings.health}/healthz/ready" in " ".join(service["healthcheck"]["test"])


def test_the_services_of_signalbox_are_its_roles() -> None:
    ours = [
        name for name, service in services("docker-compose.yml").items() if service["image"] == "signalbox"
    ]
    assert ours == list(ROLES)


def test_the_documentation_lists_each_role_once() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "docs" / "kafka.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(ROLES)


def test_roles_find_each_other() -> None:
    found = services("docker-compose.yml")
    envoy, xds, api = (parsed(found[name]["command"])[1] for name in ("envoy", "xds", "api"))
    assert envoy["xds"] == f"xds:{xds['xds'].rpartition(':')[2]}"
    assert api["gateway"] == envoy["gateway"]
    ports = [port for name in ("envoy", "api") for port in found[name]["ports"]]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert api["first_start"]


@pytest.mark.parametrize("file", ["docker-compose.yml", "docker-compose.embedded.yml"])
def test_every_service_has_a_health_check_and_loses_nothing(file: str) -> None:
    content = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))
    for name, service in content["services"].items():
        assert service["healthcheck"]["test"], name
        assert service["restart"] == "unless-stopped", name
        for volume in service["volumes"]:
            assert volume.partition(":")[0] in content["volumes"], (name, volume)


@pytest.mark.parametrize("file", ["docker-compose.yml", "docker-compose.embedded.yml"])
def test_no_secret_has_a_default(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    output = re.findall(r"\w*(?:PASSWORD|SECRET_KEY|TOKEN): (.*)", text)
    assert all(value.startswith("${") and ":?" in value for value in output)
    passwords = re.findall(r"://\w+:([^@\n]*)@", text)
    assert all(value.startswith("${") and ":?" in value for value in passwords)


def test_the_image_runs_without_a_command() -> None:
    command, given = parsed(dockerfile_command())
    assert command.name == "up"
    assert Path(given["data"]).is_absolute()
