"""The notice about a data directory with the log of the other engine."""

from pathlib import Path

import pytest

from schemas.envelope import Envelope
from schemas.identity import timestamp, uuid7
from signalbox.data_directory.other_engine import FIRST_START, other_engine
from streams.sqlite.log import SqliteLog


def event(subject: str) -> Envelope:
    return Envelope(
        id=uuid7(),
        type="io.signalbox.api.event.published.v1",
        source="/tests",
        subject=subject,
        time=timestamp(),
        partitionkey="default",
        data={},
    )


async def embedded(directory: Path, *subjects: str) -> None:
    log = await SqliteLog.open(directory)
    await log.append("events", [event(subject) for subject in subjects])
    await log.close()


DEPLOYMENT = "organizations/default/deployments/d-1"


@pytest.mark.parametrize("engine", ["embedded", "kafka"])
def test_a_new_directory_has_no_notice(tmp_path: Path, engine: str) -> None:
    assert other_engine(tmp_path, engine) is None


async def test_on_kafka_the_notice_of_an_embedded_log_has_the_way_to_move_it(tmp_path: Path) -> None:
    await embedded(tmp_path, *FIRST_START, DEPLOYMENT, "organizations/default/apis/orders")
    message = other_engine(tmp_path, "kafka") or ""
    assert "with 1 events beyond its first start" in message
    assert f"`signalbox migrate --from {tmp_path}`" in message
    assert other_engine(tmp_path, "embedded") is None


async def test_an_embedded_log_of_a_first_start_is_not_missed(tmp_path: Path) -> None:
    await embedded(tmp_path, *FIRST_START, DEPLOYMENT)
    assert other_engine(tmp_path, "kafka") is None


def test_an_unreadable_embedded_log_is_reported(tmp_path: Path) -> None:
    (tmp_path / "log.db").write_text("no database " * 100)
    assert "cannot be read (file is not a database)" in (other_engine(tmp_path, "kafka") or "")


def test_on_the_embedded_engine_a_log_on_kafka_is_reported(tmp_path: Path) -> None:
    (tmp_path / "kafka").mkdir()
    assert "start with `--engine kafka`" in (other_engine(tmp_path, "embedded") or "")
    assert other_engine(tmp_path, "kafka") is None
