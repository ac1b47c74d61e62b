"""Secrets in the data directory that are damaged: a sentence says which file, and the way out."""

from pathlib import Path

import pytest

from signalbox.settings import SettingsError
from signalbox.tokens import kept_secret


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff" * 40, b"sba_\x00\x01"])
def test_a_damaged_secret_is_named_with_the_way_out(tmp_path: Path, content: bytes):
    file = tmp_path / "admin.token"
    file.write_bytes(content)
    with pytest.raises(SettingsError) as refusal:
        kept_secret(file, "sba_")
    assert str(file) in str(refusal.value)
    assert "restore it from a backup, or remove it" in str(refusal.value).lower()


def test_a_secret_that_is_removed_is_made_anew(tmp_path: Path):
    first = kept_secret(tmp_path / "admin.token", "sba_")
    assert kept_secret(tmp_path / "admin.token", "sba_") == first
    (tmp_path / "admin.token").unlink()
    assert kept_secret(tmp_path / "admin.token", "sba_") != first
