"""What the tests of the command line share."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from signalbox.cli import main
from signalbox.cli.resources import describe as describe_module
from signalbox.cli.resources import get as get_module
from signalbox.cli.resources import history as history_module
from tests.signalbox.server_stand_in import StandIn, server

NOW = 1_795_253_410.0
"""2026-11-21T09:30:10Z"""


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with server() as running:
        yield running


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with nothing in it, and none of the user's settings."""
    for name in (
        "URL",
        "TOKEN",
        "ORG",
        "PROFILE",
        "CONFIG",
        "DATA",
        "SECRETS",
        "HTTP",
        "XDS",
        "GATEWAY",
        "ENGINE",
    ):
        monkeypatch.delenv(f"SIGNALBOX_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    for module in (get_module, describe_module, history_module):
        monkeypatch.setattr(module, "now", lambda: NOW)
    return tmp_path


@pytest.fixture
def bare(outside: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line without a server or token."""

    def run(*arguments: str) -> Ran:
        code = main(arguments)
        message = capsys.readouterr()
        return Ran(code, message.out, message.err)

    return run


@pytest.fixture
def run(bare: Run, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command line against the stand-in."""
    monkeypatch.setenv("SIGNALBOX_URL", stand_in.url)
    monkeypatch.setenv("SIGNALBOX_TOKEN", "the-token")
    return bare
