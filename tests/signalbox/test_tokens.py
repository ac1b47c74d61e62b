"""Secrets in the data directory that are damaged: a sentence says which file, and the way out."""

from pathlib import Path

import pytest

from schemas.codecs.canonical import sha256_hex
from signalbox.data_directory.tokens import gateway_token, kept_secret, shared_gateway_token
from signalbox.settings import SettingsError


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff" * 40, b"sba_\x00\x01"])
def test_a_damaged_secret_is_named_with_the_way_out(tmp_path: Path, content: bytes):
    file = tmp_path / "admin.token"
    file.write_bytes(content)
    with pytest.raises(SettingsError) as refusal:
        kept_secret(file, "sba_")
    assert str(file) in str(refusal.value)
    assert "restore it from a backup, or remove it" in str(refusal.value).lower()


def test_a_secret_that_is_removed_is_created_again(tmp_path: Path):
    first = kept_secret(tmp_path / "admin.token", "sba_")
    assert kept_secret(tmp_path / "admin.token", "sba_") == first
    (tmp_path / "admin.token").unlink()
    assert kept_secret(tmp_path / "admin.token", "sba_") != first


REGISTERED = sha256_hex(b"sbg_first")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "is missing"),
        (b"", "is empty"),
        (b"\xff" * 40, "not hold a secret of Signalbox"),
        (b"sbg_other", "is not the"),
    ],
)
def test_a_missing_token_of_a_registered_gateway_is_not_created_again(
    tmp_path: Path, content: bytes | None, says: str
):
    # given a gateway that is registered, and a file that does not have its token
    file = tmp_path / "gateway.token"
    if content is not None:
        file.write_bytes(content)

    # when the token is needed, then the start is refused with what works
    with pytest.raises(SettingsError) as refusal:
        gateway_token(file, REGISTERED, needed=True)
    output = str(refusal.value)
    assert str(file) in output and says in output
    assert "Restore the file from a backup" in output and "--no-envoy" in output
    assert "new one created" not in output

    # and when it is not, as with --no-envoy, the start goes on; neither touches the file
    assert gateway_token(file, REGISTERED, needed=False) == ""
    assert (file.read_bytes() if file.exists() else None) == content


def test_a_gateways_token_is_made_while_the_gateway_is_not_registered(tmp_path: Path):
    made = gateway_token(tmp_path / "gateway.token", None, needed=True)

    assert made.startswith("sbg_")
    assert gateway_token(tmp_path / "gateway.token", sha256_hex(made.encode()), needed=True) == made


def test_a_damaged_token_of_a_gateway_that_may_be_registered_is_refused_with_the_remedy(tmp_path: Path):
    file = tmp_path / "gateway.token"
    file.write_bytes(b"")
    with pytest.raises(SettingsError) as refusal:
        shared_gateway_token(file)
    output = str(refusal.value)
    assert "Restore it from a backup" in output
    assert "apply it again and write the token that is printed to the file" in output
