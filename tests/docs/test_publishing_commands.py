"""docs/publishing-commands.md: what it shows can be run, and what it names is there."""

import re
from pathlib import Path
from typing import Any

import pytest

from schemas.catalog import COMMANDS
from signalbox.cli.root import VERBS
from signalbox_client import KafkaSettings as ClientSettings
from streams.kafka.messages.wire import AUTHORIZATION, OUTCOME_ATTRIBUTES, PREFIX
from streams.kafka.settings import KafkaSettings
from tests.client.served import client_settings, over_kafka, service_token
from tests.support.running_signalbox import ROOT

PAGE = (ROOT / "docs" / "publishing-commands.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PROGRAMS = [
    "publish-java/PublishCommand.java",
    "publish-go/main.go",
    "publish-nodejs/publish.mjs",
    "publish-kcat/publish.sh",
]
HEADERS = {PREFIX + name for name in ("specversion", "id", "type", "source")} | {AUTHORIZATION}


async def test_the_python_client_is_used_as_it_shows(
    kafka_settings: KafkaSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"settings": client_settings(kafka_settings)}
    exec(PYTHON[0].replace("Client.kafka(bootstrap,", "Client.kafka(settings,"), names)
    async with over_kafka(kafka_settings, tmp_path):
        await names["define"](kafka_settings.bootstrap, service_token(tmp_path))
    assert re.findall(r"accepted: version (\d)", capsys.readouterr().out) == ["1"]


def test_the_settings_it_shows_are_taken() -> None:
    names: dict[str, object] = {}
    exec(PYTHON[1], names)
    settings = names["settings"]
    assert isinstance(settings, ClientSettings)
    assert (settings.mechanism, settings.tls) == ("SCRAM-SHA-512", True)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_it_names_sends_the_headers_a_command_needs(program: str) -> None:
    code = (ROOT / "examples" / program).read_text(encoding="utf-8")
    assert set(re.findall(r"\bce_(?!outcome|causationid)\w+", code)) == HEADERS
    assert "content-type" in code
    assert set(re.findall(r"io\.signalbox[\w.]+\.v\d", code)) <= set(COMMANDS)
    assert "TLS and SASL" in code


def test_the_commands_that_run_the_programs_stand_in_the_programs_too() -> None:
    shown = [
        block.strip().splitlines() for block in re.findall(r"```\n(cd examples/.*?)```", PAGE, re.DOTALL)
    ]
    assert len(shown) == len(PROGRAMS)
    for (enter, *commands), program in zip(shown, PROGRAMS, strict=True):
        code = (ROOT / "examples" / program).read_text(encoding="utf-8")
        assert enter == f"cd examples/{Path(program).parent}"
        assert commands
        for command in commands:
            assert command in code


def test_the_headers_of_an_outcome_are_those_that_are_written() -> None:
    assert set(re.findall(r"^\| `(ce_outcome\w*)` \|", PAGE, re.MULTILINE)) == {
        PREFIX + n for n in OUTCOME_ATTRIBUTES
    }


def test_the_verbs_it_names_are_there() -> None:
    assert set(re.findall(r"^signalbox (\w+)", PAGE, re.MULTILINE)) <= set(VERBS)
