"""The listen addresses of the Signalbox of a data directory, stored there for tools on the same machine."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signalbox.machine.processes import process

if TYPE_CHECKING:  # the command line reads addresses, and does not load settings for that
    from signalbox.settings import Address

FILE = "listening.json"


def write_listen_addresses(directory: Path, addresses: Mapping[str, "Address"]) -> None:
    """Stores the addresses of this process, by option (`http`, `xds`, `gateway`).

    The caller holds the directory's lock. Raises OSError.
    """
    itself = process(os.getpid())
    recorded = {
        "pid": os.getpid(),
        "started": itself.started if itself else "",
        **{option: str(address) for option, address in addresses.items()},
    }
    file = directory / FILE
    beside = file.with_name(f"{FILE}.new")
    beside.write_text(json.dumps(recorded))
    beside.replace(file)


def read_listen_addresses(directory: Path) -> Mapping[str, str]:
    """The addresses (`HOST:PORT`) of the process that uses `directory`, by option; empty when there is
    none, or the file cannot be read."""
    try:
        recorded: Any = json.loads((directory / FILE).read_bytes())
        found = process(int(recorded["pid"]))
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    if found is None or found.started != recorded.get("started"):
        return {}
    return {option: str(recorded[option]) for option in ("http", "xds", "gateway") if option in recorded}
