"""The examples of docs/extending.md, and a copy of the source with them in it.

A fenced block whose first line says `python PATH` is a new file, one that says `diff PATH` changes lines.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "extending.md"
PACKAGES = (
    "api",
    "commands",
    "definitions",
    "gateways",
    "projections",
    "schemas",
    "signalbox",
    "streams",
    "xds",
)
_BLOCK = re.compile(r"^```(python|diff) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Example:
    path: str
    new: bool
    text: str


def examples() -> list[Example]:
    found = _BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    return [Example(path, form == "python", text) for form, path, text in found]


def extended_copy(directory: Path) -> Path:
    """A copy of the product's source with every example put in as the page says."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, directory / package, ignore=shutil.ignore_patterns("__pycache__"))
    for example in examples():
        file = directory / example.path
        if example.new:
            assert not file.exists(), f"{example.path} is there already"
            file.write_text(example.text, encoding="utf-8")
        else:
            changed = _changed(file.read_text(encoding="utf-8"), example.text, example.path)
            file.write_text(changed, encoding="utf-8")
    return directory


def _changed(content: str, diff: str, path: str) -> str:
    """`content` with a diff of one or more pieces, parted by empty lines, each of which stands in it once."""
    for piece in diff.strip("\n").split("\n\n"):
        lines = [(line[:1], line[1:]) for line in piece.split("\n")]
        before = "".join(f"{text}\n" for sign, text in lines if sign in " -")
        after = "".join(f"{text}\n" for sign, text in lines if sign in " +")
        assert content.count(before) == 1, f"{path} does not hold once:\n{before}"
        content = content.replace(before, after)
    return content
