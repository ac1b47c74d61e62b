"""examples/publish_a_command.py where Kafka cannot be used."""

import sys

import pytest

from tests.support.free_ports import free_port
from tests.support.running_signalbox import ROOT
from tests.support.toolchains import run

EXAMPLE = ROOT / "examples" / "publish_a_command.py"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "cannot be used (see SIGNALBOX_KAFKA_*)"),
        ({"SIGNALBOX_KAFKA_MECHANISM": "PLAIN"}, "cannot be used (see SIGNALBOX_KAFKA_*)"),
        (
            {"SIGNALBOX_KAFKA_TLS": "on", "SIGNALBOX_KAFKA_CA": "/nowhere/ca.pem"},
            "cannot be used (see SIGNALBOX_KAFKA_*)",
        ),
        ({"SIGNALBOX_COMMAND_TOKEN": ""}, "SIGNALBOX_COMMAND_TOKEN is not set"),
    ],
    ids=["nothing there", "no user", "no file", "no token"],
)
async def test_it_ends_with_a_sentence(variables: dict[str, str], message: str) -> None:
    kafka = {"SIGNALBOX_KAFKA": f"127.0.0.1:{free_port()}", "SIGNALBOX_COMMAND_TOKEN": "id~secret"}
    environment = {**kafka, **variables}

    ended = await run(
        [sys.executable, EXAMPLE, "http://127.0.0.1:1"], environment=environment, cwd=ROOT, seconds=90
    )

    assert ended.code == 1
    assert message in ended.err
    assert "Traceback" not in ended.err
