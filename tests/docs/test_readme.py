"""What the first screen of README.md says happens, and every command after it works."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from bench.calls import until
from bench.house import ROOT, House
from bench.house import upstream as serving_upstream
from signalbox.envoy import EnvoyMissing, find_binary

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line
    for language, text in BLOCKS
    if not language
    for line in text.splitlines()
    if line.startswith(("signalbox ", "curl "))
]


@dataclass
class AsWritten(House):
    """Started as `make up` does, but for the ports; `said` are the addresses README has for them."""

    said: dict[str, str] = field(default_factory=dict[str, str])

    def argv(self) -> list[str]:
        return [word for word in super().argv() if word != "--no-sample"]

    def here(self, text: str) -> str:
        for address, ours in self.said.items():
            text = text.replace(address, ours)
        return text

    def run(self, command: str) -> str:
        """What a command of README prints. Raises CalledProcessError."""
        words = self.here(command).split()
        if words[0] == "signalbox":
            words = [sys.executable, "-m", *words]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "NO_PROXY": "127.0.0.1",
            "SIGNALBOX_URL": f"http://127.0.0.1:{self.http}",
            "SIGNALBOX_TOKEN": self.token,
        }
        ran = subprocess.run(
            words, cwd=self.data.parent, env=environment, capture_output=True, text=True, timeout=60
        )
        assert ran.returncode == 0, (command, ran)
        return ran.stdout + (ran.stderr if words[0] != "curl" else "")


@pytest.fixture(scope="module")
def readme(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AsWritten]:
    try:
        find_binary()
    except EnvoyMissing as missing:
        if os.environ.get("SIGNALBOX_REQUIRE_REAL") == "1":
            raise
        pytest.skip(str(missing))
    house = AsWritten(tmp_path_factory.mktemp("readme") / "data")
    with serving_upstream() as upstream:
        house.said = {
            "http://127.0.0.1:8080": f"http://127.0.0.1:{house.http}",
            "http://127.0.0.1:8000": f"http://127.0.0.1:{house.gateway}",
            "http://127.0.0.1:9000": upstream,
            ".signalbox": str(house.data),
        }
        (written,) = (text for language, text in BLOCKS if language == "yaml")
        (house.data.parent / "orders.yaml").write_text(house.here(written), encoding="utf-8")
        try:
            house.up()
            yield house
        finally:
            house.raze()


def without_times(text: str) -> list[str]:
    """Its lines, but for blank ones, when and how long; whether it serves already is a matter of time too."""
    for pattern, instead in (
        (r"\d\d:\d\d:\d\d\.\d{3}", "TIME"),
        (r"\+[\d.]+ m?s", "+N"),
        (r"\([\d.]+ s\)", "(N s)"),
        (r", serving \+N", ""),
        (r"\bserving +", "acknowledged "),
    ):
        text = re.sub(pattern, instead, text)
    return [line for line in text.splitlines() if line.strip()]


def test_up_prints_what_the_first_screen_shows(readme: AsWritten) -> None:
    (shown,) = (text for _, text in BLOCKS if text.startswith("Signalbox is up"))
    until(lambda: "  curl " in readme.log(), "its last line")
    printed = "\n".join(line for line in readme.log().splitlines() if not line.startswith("{"))
    assert without_times(printed) == without_times(readme.here(shown))


def test_the_sample_answers_through_envoy(readme: AsWritten) -> None:
    (command,) = (c for c in COMMANDS if c.startswith("curl -i"))
    readme.answered("/hello/you")
    said = readme.run(command)
    (header,) = (text.strip() for _, text in BLOCKS if text.startswith("x-signalbox-revision"))
    assert header in said.splitlines()
    assert "Hello, you!" in said


def test_the_tour_works_as_it_is_written(readme: AsWritten) -> None:
    tour = [c for c in COMMANDS if c.startswith("signalbox ")]
    assert len(tour) >= 5
    first, *others = tour
    (shown,) = (text for _, text in BLOCKS if text.startswith("created "))
    assert without_times(readme.run(first)) == without_times(shown)
    assert readme.through("/shop/orders/1")[:2] == (200, "orders@1")
    for command in others:
        assert re.search("orders|published", readme.run(command))
    assert "unchanged" in readme.run(first)


@pytest.mark.parametrize("page", ["openapi.json", "asyncapi.json"])
def test_the_documents_are_where_it_says(readme: AsWritten, page: str) -> None:
    assert f"/{page}`" in README
    connection = readme.connection()
    assert connection.ask("GET", f"/{page}")[0] == 200
    connection.close()


def test_every_page_it_names_exists() -> None:
    pages = re.findall(r"\]\(([^)#:]+)\)", README)
    assert "docs/operations.md" in pages
    assert [page for page in pages if not (ROOT / page).exists()] == []
