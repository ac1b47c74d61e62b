"""What README.md shows as printed is what is printed, but for times and ports."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.calls import until
from tests.support.running_signalbox import ROOT, RunningSignalbox

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


class AsMakeUp(RunningSignalbox):
    """Started as `make up` does, but for the ports and the data directory."""

    def extra_environment(self) -> dict[str, str]:
        return {"SIGNALBOX_LOGS": ""}

    def argv(self) -> list[str]:
        return [word for word in super().argv() if word != "--no-sample"]

    def here(self, text: str) -> str:
        """`text` of README with the addresses of this one."""
        text = text.replace("127.0.0.1:8080", f"127.0.0.1:{self.http}")
        return text.replace("127.0.0.1:8000", f"127.0.0.1:{self.gateway}").replace(
            ".signalbox", str(self.data)
        )


@pytest.fixture(scope="module")
def up(envoy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AsMakeUp]:
    harness = AsMakeUp(tmp_path_factory.mktemp("readme") / "data")
    try:
        harness.up()
        yield harness
    finally:
        harness.raze()


def shown(beginning: str) -> str:
    (text,) = (text for language, text in BLOCKS if not language and text.startswith(beginning))
    return text


def without_times(text: str) -> list[str]:
    """Its lines, but for blank ones, when and how long; whether it serves already is a matter of time too."""
    for pattern, instead in (
        (r"\d\d:\d\d:\d\d\.\d{3}", "TIME"),
        (r"\+[\d.]+ m?s", "+N"),
        (r"\((?:[\d.]+|N) s\)", "(N s)"),
        (r", serving \+N", ""),
        (r"\bserving +", "acknowledged "),
    ):
        text = re.sub(pattern, instead, text)
    return [line for line in text.splitlines() if line.strip()]


def test_up_prints_the_output_on_the_first_screen_of_the_readme(up: AsMakeUp) -> None:
    until(lambda: "  curl " in up.log(), "the last line")
    printed = "\n".join(line for line in up.log().splitlines() if not line.startswith("{"))
    assert without_times(printed) == without_times(up.here(shown("Signalbox is up")))


def test_apply_prints_the_output_in_the_tour(up: AsMakeUp) -> None:
    (written,) = (text for language, text in BLOCKS if language == "yaml")
    (up.data.parent / "orders.yaml").write_text(written, encoding="utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "SIGNALBOX_URL": f"http://127.0.0.1:{up.http}",
        "SIGNALBOX_TOKEN": up.token,
    }
    ran = subprocess.run(
        [sys.executable, "-m", *shown("signalbox apply").split()],
        cwd=up.data.parent,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=True,
        text=True,
    )
    assert without_times(ran.stdout) == without_times(shown("created "))


@pytest.mark.parametrize("document", ["openapi.json", "asyncapi.json"])
def test_the_documents_are_where_it_says(up: AsMakeUp, document: str) -> None:
    assert f"/{document}`" in README
    connection = up.connection()
    assert connection.ask("GET", f"/{document}")[0] == 200
    connection.close()


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_every_page_that_is_named_exists(page: str) -> None:
    file = ROOT / page
    named = re.findall(r"\]\(([^)#:]+)\)", file.read_text(encoding="utf-8"))
    assert [name for name in named if not (file.parent / name).exists()] == []
