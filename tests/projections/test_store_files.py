"""Read models hold what APIs and subscriptions are: their files are for the owner alone."""

import stat
from pathlib import Path

import pytest

from tests.projections.stores import sqlite_store


@pytest.mark.parametrize("earlier", [False, True], ids=["new", "of an earlier version"])
def test_files_are_for_the_owner_alone(tmp_path: Path, earlier: bool):
    if earlier:
        with sqlite_store(tmp_path):
            (tmp_path / "readmodels.db").chmod(0o644)
    with sqlite_store(tmp_path):
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == {"readmodels.db": 0o600, "readmodels.db-wal": 0o600, "readmodels.db-shm": 0o600}
