"""The wheel: the client, and the modules of `schemas` that it imports, as `signalbox_client.schemas`."""

import ast
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "signalbox_client"
MESSAGES = "schemas"
_IMPORT = re.compile(rf"^(\s*(?:from|import) ){MESSAGES}(?=[.\s])", re.MULTILINE)


class WheelFiles(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        # Beside this file in a source distribution, at the top of the repository otherwise.
        messages = next(p for p in (root / MESSAGES, root.parents[1] / MESSAGES) if p.is_dir())
        self._built = tempfile.TemporaryDirectory(prefix="signalbox-client-")
        for source, inside in _files(root / PACKAGE, messages):
            file = Path(self._built.name, inside)
            file.parent.mkdir(parents=True, exist_ok=True)
            content = source.read_text(encoding="utf-8")
            if source.suffix == ".py":
                content = _IMPORT.sub(rf"\1{PACKAGE}.{MESSAGES}", content)
            file.write_text(content, encoding="utf-8")
            build_data["force_include"][str(file)] = f"{PACKAGE}/{inside}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        self._built.cleanup()


def _files(client: Path, messages: Path) -> Iterator[tuple[Path, str]]:
    """Each file of the wheel, and its path in the package."""
    for file in sorted((*client.glob("*.py"), client / "py.typed")):
        yield file, file.name
    needed: set[Path] = set()
    new = {module for file in client.glob("*.py") for module in _imported(file, messages)}
    while new:
        needed |= new
        new = {module for each in new for module in _imported(each, messages)} - needed
    for module in sorted(needed):
        yield module, f"{MESSAGES}/{module.relative_to(messages)}"
    for file in sorted((messages / "published").iterdir()):
        yield file, f"{MESSAGES}/published/{file.name}"


def _imported(file: Path, messages: Path) -> Iterator[Path]:
    """The modules of `schemas` that a file imports, and the packages they are in."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if not isinstance(node, ast.ImportFrom) or (node.module or "").split(".")[0] != MESSAGES:
            continue
        _, *path = (node.module or "").split(".")
        found = [messages.joinpath(*path, alias.name) for alias in node.names] + [messages.joinpath(*path)]
        yield from (module for each in found if (module := each.with_suffix(".py")).is_file())
        parents = [messages.joinpath(*path[:depth]) for depth in range(len(path) + 1)]
        yield from (init for parent in parents if (init := parent / "__init__.py").is_file())
