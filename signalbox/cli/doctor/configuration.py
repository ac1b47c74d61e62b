"""Checks that the configuration of the gateways is complete: each config resource that another one requires
exists."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from signalbox.cli.doctor.finding import Check
from streams.log import LogError
from streams.sqlite.config import CONFIG, entry_of_row, load_statement
from streams.sqlite.database import connect
from xds.scopes import routes_of
from xds.types import ResourceKey

HINT = "start Signalbox, or restart it: it compiles the missing config resources"


def configuration(directory: Path) -> Iterator[Check]:
    """Checks a data directory whose files are sound. Reads only."""
    path = directory / CONFIG.file
    if not path.exists():
        return
    try:
        missing = _missing(path)
    except (LogError, sqlite3.Error) as error:
        yield Check("configuration", "wrong", f"{path} cannot be read: {error}", HINT)
        return
    for gateway, needed, by in missing:
        found = f"{gateway}: {by} names {needed}, which is missing"
        yield Check("configuration", "wrong", found, HINT)
    if not missing:
        yield Check("configuration", "ok", "all config resources of the gateways exist")


def _missing(path: Path) -> list[tuple[str, str, str]]:
    """Gateway, missing name, and the name of the entry that requires it, in one consistent read."""
    there: set[tuple[str, ResourceKey]] = set()
    needed: dict[tuple[str, ResourceKey], str] = {}
    with closing(connect(CONFIG, path, write=False)) as db:
        for row in db.execute(load_statement(None, removals=False), (0, -1)):
            entry = entry_of_row(path, row)
            there.add((entry.gateway, (entry.type, entry.name)))
            routes = routes_of(entry)
            for key in (*entry.requires, *((routes,) if routes is not None else ())):
                needed.setdefault((entry.gateway, key), entry.name)
    return [(gateway, key[1], by) for (gateway, key), by in needed.items() if (gateway, key) not in there]
