"""Files that are written in one step."""

from pathlib import Path

import pytest

from streams.whole_file import write_whole


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_and_for_its_owner_only(tmp_path: Path, durable: bool):
    file = tmp_path / "file"
    file.write_bytes(b"before")
    assert write_whole(file, b"after", durable=durable)
    assert file.read_bytes() == b"after"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_an_existing_file_stays_when_it_is_not_to_be_replaced(tmp_path: Path):
    file = tmp_path / "file"
    assert write_whole(file, b"first", replace=False)
    assert not write_whole(file, b"second", replace=False)
    assert file.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [file]


def test_a_failed_write_leaves_nothing(tmp_path: Path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(OSError):
        write_whole(folder, b"content")
    assert list(tmp_path.iterdir()) == [folder]
