"""docs/publishing-commands.md: what it shows can be run, and what it names is there."""

import re
from pathlib import Path
from typing import Any

import pytest

from bench.house import ROOT
from schemas.catalog import COMMANDS
from signalbox.cli.root import VERBS
from signalbox.client import KafkaSettings
from streams.kafka.wire import AUTHORIZATION, PREFIX, TOLD
from tests.client.served import over_kafka, service_token

PAGE = (ROOT / "docs" / "publishing-commands.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
HEADERS = {PREFIX + name for name in ("specversion", "id", "type", "source")} | {AUTHORIZATION}


async def test_the_python_client_is_used_as_it_shows(
    kafka_settings: KafkaSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"settings": kafka_settings}
    exec(PYTHON[0].replace("Client.kafka(bootstrap,", "Client.kafka(settings,"), names)
    async with over_kafka(kafka_settings, tmp_path):
        await names["define"](kafka_settings.bootstrap, service_token(tmp_path))
    assert re.findall(r"accepted: version (\d)", capsys.readouterr().out) == ["1"]


def test_the_settings_it_shows_are_taken() -> None:
    names: dict[str, object] = {}
    exec(PYTHON[1], names)
    settings = names["settings"]
    assert isinstance(settings, KafkaSettings)
    assert (settings.mechanism, settings.tls) == ("SCRAM-SHA-512", True)


@pytest.mark.parametrize("language", ["java", "go", "js"])
def test_every_language_sends_the_headers_a_command_needs(language: str) -> None:
    [code] = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert set(re.findall(r"\bce_\w+", code)) == HEADERS
    assert "content-type" in code
    assert set(re.findall(r"io\.signalbox[\w.]+\.v\d", code)) <= set(COMMANDS)
    assert "TLS and SASL" in code


def test_the_headers_of_an_outcome_are_those_that_are_written() -> None:
    assert set(re.findall(r"^\| `(ce_outcome\w*)` \|", PAGE, re.MULTILINE)) == {PREFIX + n for n in TOLD}


def test_the_verbs_it_names_are_there() -> None:
    assert set(re.findall(r"^signalbox (\w+)", PAGE, re.MULTILINE)) <= set(VERBS)
