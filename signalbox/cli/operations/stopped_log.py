"""The log of a Signalbox that is stopped (on Kafka: without deciders), for commands that change it."""

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from signalbox.cli.failure import USAGE, Failure

if TYPE_CHECKING:
    from signalbox.settings import Settings
    from streams.kafka.settings import KafkaSettings
    from streams.log import Log


@contextmanager
def stopped_log_settings(
    *, data: str | None, engine: str | None, secrets: str | None = None
) -> Generator["Settings"]:
    """The settings. Raises Failure for errors in them, and for those of the log in the block."""
    from signalbox.settings import SettingsError, from_environment, require_services
    from streams.kafka.security.integrity_key import IntegrityKeyError
    from streams.log import LogError
    from streams.sqlite.lock import DirectoryInUse

    try:
        settings = from_environment(data=data, engine=engine, secrets=secrets)
        if settings.engine == "kafka":
            require_services(settings, ["decider"])
        elif not (settings.data / "log.db").is_file():
            raise Failure(f"{settings.data} holds no event log", "name the directory with --data", USAGE)
        yield settings
    except SettingsError as error:
        raise Failure(str(error), code=USAGE) from error
    except DirectoryInUse as error:
        raise Failure(str(error), "stop Signalbox first") from error
    except (LogError, IntegrityKeyError, OSError) as error:
        raise Failure(str(error)) from error


@asynccontextmanager
async def stopped_log(
    settings: "Settings", *, skipping: tuple[int, int] | None = None
) -> AsyncGenerator["Log"]:
    """`skipping`: as `SqliteLog.open` takes it. Raises DirectoryInUse, LogError, IntegrityKeyError."""
    opened: Log
    if settings.engine == "embedded":
        from streams.sqlite.log import SqliteLog

        opened = await SqliteLog.open(settings.data, skipping=skipping)
    else:
        from streams.kafka.log import KafkaLog

        await require_no_members(settings.kafka, ["decider"])
        key = settings.integrity_key  # roles create it; one created here might be in another directory
        opened = await KafkaLog.open(
            settings.kafka, settings.data, integrity_key=key if key.exists() else None
        )
    try:
        yield opened
    finally:
        await opened.close()


async def require_no_members(kafka: "KafkaSettings", roles: Sequence[str]) -> None:
    """Raises Failure while a process runs one of `roles`; LogUnavailable."""
    from streams.kafka.inspection import describe

    for group in (await describe(kafka, [kafka.group(role) for role in roles]))[1]:
        if group.members:
            raise Failure(
                f"{len(group.members)} process(es) are in the group {group.name} (at "
                f"{', '.join(group.members)})",
                "stop `signalbox run` there first",
            )
