"""The real Kafka of the tests: one broker for all, and one of its own for a test that kills it."""

import tempfile
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from signalbox.devservers.errors import Unavailable
from signalbox.devservers.kafka.jars import kafka_jars
from signalbox.devservers.kafka.server import DevKafka
from streams.kafka.settings import KafkaSettings
from tests.support.real_parts import missing
from tests.support.shared import run_directory, shared

DOWNLOAD_WITHIN = 180.0


@pytest.fixture(scope="session")
def kafka_files() -> Path:
    """Kafka's program files, downloaded if need be."""
    try:
        return kafka_jars(within=DOWNLOAD_WITHIN)
    except Unavailable as error:
        missing(error)


class JoinedKafka(DevKafka):
    """A broker that another process of the run has started."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, int((directory / "port").read_text()))

    def start(self) -> str:
        return (self.directory / "address").read_text().strip()

    @property
    def pid(self) -> int:
        return int((self.directory / "pid").read_text())


@pytest.fixture(scope="session")
def shared_kafka(
    kafka_files: Path, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DevKafka]:
    """The broker that all tests share, started. Do not stop it."""
    with shared(run_directory(pytestconfig, tmp_path_factory) / "kafka", _started) as directory:
        yield JoinedKafka(directory)


@contextmanager
def _started() -> Generator[Path]:
    with tempfile.TemporaryDirectory(prefix="signalbox-kafka-", ignore_cleanup_errors=True) as directory:
        broker = DevKafka(Path(directory))
        try:
            broker.start()
            (broker.directory / "pid").write_text(str(broker.pid))
            yield broker.directory
        finally:
            broker.kill()


@pytest.fixture(scope="session")
def kafka_broker(shared_kafka: DevKafka) -> str:
    """The bootstrap servers of the broker that all tests share."""
    return shared_kafka.start()


@pytest.fixture
def kafka_settings(kafka_settings_of: Callable[[int], KafkaSettings]) -> KafkaSettings:
    """Topics of this test's own, of one partition."""
    return kafka_settings_of(1)


@pytest.fixture
def kafka_settings_of(shared_kafka: DevKafka) -> Callable[[int], KafkaSettings]:
    """Creates settings with another number of partitions; each call has topics of its own."""
    return lambda partitions: settings_for(shared_kafka, partitions)


@pytest.fixture
def own_kafka(kafka_files: Path, tmp_path: Path) -> Iterator[DevKafka]:
    """A broker that is started and belongs to this test, to be killed and started again.

    `settings_for(own_kafka)` are its settings.
    """
    broker = DevKafka(tmp_path / "kafka")
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


def settings_for(broker: DevKafka, partitions: int = 1) -> KafkaSettings:
    """Topics for this test alone, on a broker that is started unless it runs."""
    broker.start()
    return replace(broker.access, prefix=f"test-{uuid.uuid4().hex[:12]}", partitions=partitions)
