"""One more user may pass through a directory; the permissions of all others are unchanged."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from signalbox.devservers.account import Account, let_reach
from signalbox.devservers.passage import NAME, with_passage

OWNER, USER, GROUP, NAMED_GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
NO_ID = 0xFFFFFFFF
SOMEBODY, ANOTHER = 54_321, 54_322


def test_a_private_directory_gets_one_entry_and_a_mask():
    private = [(OWNER, 7, NO_ID), (GROUP, 0, NO_ID), (OTHER, 0, NO_ID)]
    assert with_passage(private, SOMEBODY) == [
        (OWNER, 7, NO_ID),
        (USER, 1, SOMEBODY),
        (GROUP, 0, NO_ID),
        (MASK, 1, NO_ID),
        (OTHER, 0, NO_ID),
    ]


def test_it_is_the_same_the_second_time():
    private = [(OWNER, 7, NO_ID), (GROUP, 0, NO_ID), (OTHER, 0, NO_ID)]
    once = with_passage(private, SOMEBODY)
    assert with_passage(once, SOMEBODY) == once


def test_a_new_mask_grants_no_permission_that_the_old_one_withheld():
    listed = [
        (OWNER, 7, NO_ID),
        (USER, 7, ANOTHER),
        (GROUP, 7, NO_ID),
        (NAMED_GROUP, 6, ANOTHER),
        (MASK, 4, NO_ID),
        (OTHER, 0, NO_ID),
    ]
    assert with_passage(listed, SOMEBODY) == [
        (OWNER, 7, NO_ID),
        (USER, 1, SOMEBODY),
        (USER, 4, ANOTHER),
        (GROUP, 4, NO_ID),
        (NAMED_GROUP, 4, ANOTHER),
        (MASK, 5, NO_ID),
        (OTHER, 0, NO_ID),
    ]


def _reads(path: Path, uid: int) -> bool:
    command = ["cat", str(path)]
    done = subprocess.run(
        command, user=uid, group=uid, extra_groups=[], capture_output=True, check=False, cwd="/"
    )
    return done.returncode == 0


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A file that all users may read, below a directory that only root may pass."""
    if os.geteuid() != 0:
        pytest.skip("only root starts servers as another user")
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    try:
        os.setxattr(directory, NAME, b"\x02\x00\x00\x00")
    except OSError as error:
        pytest.skip(f"no access control lists here: {error}")
    file = directory / "file"
    file.write_text("read")
    file.chmod(0o644)
    return file


def test_the_server_passes_and_other_users_do_not(private: Path):
    assert not _reads(private, SOMEBODY)
    let_reach(Account("somebody", SOMEBODY, SOMEBODY, other=True), private)
    assert _reads(private, SOMEBODY)
    assert not _reads(private, ANOTHER)
    assert stat.S_IMODE(private.parent.stat().st_mode) & 0o007 == 0
