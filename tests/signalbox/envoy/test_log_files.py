"""The log of the supervised Envoy."""

from pathlib import Path

import pytest

from signalbox.envoy import log_files
from signalbox.envoy.log_files import EnvoyLog

BAD = b"[2026-11-21 09:30:00.123][77][critical][main] [source/server/server.cc:433] cannot read token-1\n"


def test_last_words_are_severe_recent_and_without_secrets(tmp_path: Path) -> None:
    log = EnvoyLog(tmp_path / "envoy.log", ("token-1", ""))
    assert log.last_words() == ""
    with log.open() as out:
        out.write(b"[2026-11-21 09:30:00.123][77][info][main] [source/a.cc:1] fine\n" + BAD)
    assert log.last_words() == "cannot read [redacted]"
    with log.open():
        assert log.last_words() == ""


def test_words_from_before_a_mark_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "envoy.log").write_bytes(BAD)
    log = EnvoyLog(tmp_path / "envoy.log")
    assert log.last_words() == "cannot read token-1"
    log.mark()
    assert log.last_words() == ""


def test_a_log_that_grows_is_bounded_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "ROTATE_ABOVE", 10)
    log = EnvoyLog(tmp_path / "envoy.log")
    with log.open() as out:
        out.write(b"more than ten")
        out.flush()
        log.bound()
        out.write(BAD)
    assert log.last_words() == "cannot read token-1"
    assert (tmp_path / "envoy.log").read_bytes() == BAD
    assert (tmp_path / "envoy.log.1").read_bytes() == b"more than ten"
    assert (tmp_path / "envoy.log.1").stat().st_mode & 0o777 == 0o600


def test_a_large_log_is_put_aside_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_files, "ROTATE_ABOVE", 10)
    log = EnvoyLog(tmp_path / "envoy.log")
    for text in (b"the first start", b"the second start", b"the third"):
        with log.open() as out:
            out.write(text)
    assert (tmp_path / "envoy.log").read_bytes() == b"the third"
    assert (tmp_path / "envoy.log.1").read_bytes() == b"the second start"
