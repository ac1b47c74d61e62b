"""Starts a Kafka and a PostgreSQL for `signalbox up`, unless others are configured."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from signalbox.devservers.kafka.credentials import with_access
from signalbox.devservers.kafka.server import DevKafka
from signalbox.devservers.postgres.server import DevPostgres
from signalbox.observability import logs
from signalbox.settings import Settings, postgres_url


@contextmanager
def local_servers(settings: Settings) -> Generator[Settings]:
    """The settings, with the addresses of the servers started in the data directory; they stop with the
    block.

    Raises signalbox.devservers.errors.DevServerError, PortUnusable, OSError.
    """
    with ExitStack() as servers:
        if not settings.kafka.bootstrap:
            _say("Kafka")
            kafka = DevKafka(settings.data / "kafka")
            servers.callback(kafka.stop)
            kafka_settings = with_access(settings.kafka, kafka.directory, kafka.start())
            settings = replace(settings, kafka=kafka_settings, kafka_clients=kafka.environment_file)
        if not settings.postgres:
            _say("PostgreSQL")
            postgres = DevPostgres(settings.data / "postgres")
            servers.callback(postgres.stop)
            settings = replace(settings, postgres=postgres_url(postgres.start()))
        yield settings


def _say(what: str) -> None:
    logs.say(f"Starting {what} (the first start downloads it, which may take a minute).")
