"""docs/operations.md names what there is: options, variables and files."""

import re
from pathlib import Path

import click
import pytest

from signalbox.cli.operations.up import up
from signalbox.settings import Settings, from_environment
from tests.support.running_signalbox import ROOT, RunningSignalbox

PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
OPTIONS: list[tuple[str, str, str]] = re.findall(
    r"^\| `(--[\w-]+)` \| (?:`(\w+)`)? ?\| (?:`(\S+)`)? ?\|", PAGE, re.MULTILINE
)


def test_every_option_of_up_has_its_line() -> None:
    names = {o for p in up.params if isinstance(p, click.Option) for o in p.opts if o.startswith("--")}
    assert {name for name, _, _ in OPTIONS} == names - {"--engine", "--help"}


@pytest.mark.parametrize(("option", "variable", "default"), [o for o in OPTIONS if o[1]])
def test_variables_and_defaults_are_those_it_says(option: str, variable: str, default: str) -> None:
    name = option.removeprefix("--")
    assert str(getattr(Settings(), name)) == str(Path(default) if name == "data" else default)
    given = "elsewhere" if name == "data" else "127.0.0.1:1234"
    assert str(getattr(from_environment({variable: given}), name)) == given


@pytest.mark.usefixtures("envoy")
def test_every_file_of_the_data_directory_has_its_line(tmp_path: Path) -> None:
    harness = RunningSignalbox(tmp_path / "data")
    try:
        harness.up("--no-envoy")
        made = {file.name for file in harness.data.iterdir()}
    finally:
        harness.raze()
    listed = set(re.findall(r"^\| `([\w.]+)/?` \|", PAGE, re.MULTILINE))
    assert {name for name in made if not name.endswith(("-wal", "-shm"))} <= listed
    assert {"log.db", "admin.token"} <= made


SECRETS = {file.name for file in Settings().secret_files}


def test_every_token_and_key_has_its_line() -> None:
    assert set(re.findall(r"^\| `([\w.]+)` \|", PAGE, re.MULTILINE)) >= SECRETS


def test_the_pages_name_every_token_and_key_that_backups_contain() -> None:
    (backup,) = re.findall(r"^The directory contains secrets \((.*?)\)", PAGE, re.MULTILINE | re.DOTALL)
    assert {name for name in re.findall(r"`([\w.]+)`", backup) if "." in name} == SECRETS
    kafka = (ROOT / "docs" / "kafka.md").read_text(encoding="utf-8")
    (shared,) = re.findall(r"The directory of\nsecrets \((.*?)\)", kafka, re.DOTALL)
    assert set(re.findall(r"`([\w.]+)`", shared)) == SECRETS
