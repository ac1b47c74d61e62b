"""The checks of `signalbox doctor` on the engine kafka; they change nothing."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from aiokafka import TopicPartition
from sqlalchemy import Connection, create_engine, func, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError

from projections.source_log import OTHER_DATABASE, Positions, SourceLog
from projections.store import CHECKPOINTS, GENERATIONS, PARKED, log_difference
from signalbox.cli.doctor.finding import Check
from signalbox.cli.doctor.integrity import integrity
from signalbox.devservers.kafka.credentials import PASSWORD, with_access
from signalbox.roles import CONSUMER_GROUPS
from signalbox.settings import Settings
from streams.kafka.fetcher import Fetcher
from streams.kafka.inspection import Cluster, Group, describe
from streams.kafka.security.keys import KeyFileError, read_trusted, signing_key
from streams.kafka.settings import source_log
from streams.kafka.topics import specs, topic_problems
from streams.log import TOPICS, LogError

CLOCK_SECONDS = 2.0
"""The tolerated difference of clocks: tokens are valid a minute early, times in histories should be in
order."""

MUCH = 1_000
"""The lag, in positions, from which on it is reported."""


def checks(settings: Settings) -> Iterator[Check]:
    settings = _with_own_servers(settings)
    log: SourceLog | None = None
    if not settings.kafka.bootstrap:
        yield Check("Kafka", "note", "SIGNALBOX_KAFKA is not set", "`signalbox up` starts its own")
    else:
        try:
            cluster, groups = asyncio.run(
                describe(settings.kafka, [settings.kafka.group(name) for name in CONSUMER_GROUPS])
            )
            problems = asyncio.run(topic_problems(settings.kafka))
            if not problems:
                log = asyncio.run(_log(settings))
        except (LogError, OSError) as error:
            yield Check(
                "Kafka",
                "wrong",
                str(error),
                "is it running, is SIGNALBOX_KAFKA its address as seen from here, and do "
                "SIGNALBOX_KAFKA_TLS and _MECHANISM fit it?",
            )
        else:
            yield from brokers(settings, cluster)
            yield from topics(settings, problems)
            for name in CONSUMER_GROUPS:
                yield group(settings, name, groups, (log and log.ends) or {})
    if not settings.postgres:
        yield Check("PostgreSQL", "note", "SIGNALBOX_POSTGRES is not set", "`signalbox up` starts its own")
    else:
        yield from database(settings.postgres, log)
    yield from keys(settings)
    yield from integrity(settings, reachable=log is not None)


def _with_own_servers(settings: Settings) -> Settings:
    """Settings with the servers that `signalbox up` started in the directory, for those that are not
    configured."""
    kafka, postgres = (_address(settings.data / name) for name in ("kafka", "postgres"))
    if kafka and not settings.kafka.bootstrap:
        # The server has run, so its password exists and is not created here.
        settings = replace(settings, kafka=with_access(settings.kafka, settings.data / "kafka", kafka))
    if postgres and not settings.postgres:
        settings = replace(settings, postgres=postgres)
    return settings


def _address(directory: Path) -> str:
    """Empty when no server runs in `directory`."""
    if not (directory / PASSWORD).exists():
        return ""
    try:
        return (directory / "address").read_text().strip()
    except OSError:
        return ""


async def _log(settings: Settings) -> SourceLog:
    kafka = settings.kafka
    names = {kafka.topic(name): name for name in TOPICS}
    fetching = await Fetcher.open(kafka, list(names))
    try:
        ends = {
            (name, partition): await fetching.last(TopicPartition(topic, partition))
            for topic, name in names.items()
            for partition in range(kafka.partitions)
        }
        log = source_log(kafka, await fetching.identity(kafka.topic("events")))
        return replace(log, ends=ends)
    finally:
        await fetching.close()


def brokers(settings: Settings, cluster: Cluster) -> Iterator[Check]:
    description = ", ".join(f"{id} at {address}" for id, address in sorted(cluster.brokers.items()))
    yield Check("Kafka", "ok", f"cluster {cluster.id}, brokers {description}")
    if len(cluster.brokers) < settings.kafka.replication:
        yield Check(
            "Kafka",
            "wrong",
            f"{len(cluster.brokers)} broker(s) for {settings.kafka.replication} replicas",
            "start the missing brokers, or set SIGNALBOX_KAFKA_REPLICATION to the number of brokers",
        )


def topics(settings: Settings, problems: Sequence[str]) -> Iterator[Check]:
    count = len(specs(settings.kafka))
    if len(problems) == count and all(sentence.endswith("is missing.") for sentence in problems):
        yield Check(
            "topics",
            "note",
            f"there are no topics {settings.kafka.prefix}.* yet",
            "the first role that starts creates them; is SIGNALBOX_KAFKA_PREFIX right?",
        )
        return
    for problem in problems:
        yield Check("topics", "wrong", problem, "no role starts until this is corrected")
    if not problems:
        partitions = settings.kafka.partitions
        yield Check("topics", "ok", f"{count} topics {settings.kafka.prefix}.* of {partitions} partition(s)")


def group(settings: Settings, role: str, groups: Sequence[Group], ends: Positions) -> Check:
    """Whether processes run a role, and its lag."""
    name = settings.kafka.group(role)
    found = next((one for one in groups if one.name == name), None)
    members = len(found.members) if found else 0
    behind = 0
    if role == "decider":
        topic = settings.kafka.topic("commands")
        read = found.offsets if found else {}
        behind = sum(
            max(0, end - read.get(TopicPartition(topic, partition), 0))
            for (of, partition), end in ends.items()
            if of == "commands"
        )
    waiting = f", {behind:,} commands wait" if behind else ""
    if members == 0:
        return Check(role, "wrong" if behind else "note", f"not running{waiting}", f"signalbox run {role}")
    where = ", ".join(sorted(set(found.members))) if found else ""
    if behind > MUCH:
        return Check(
            role, "wrong", f"{members} process(es) at {where}{waiting}", "see their logs and /metrics"
        )
    return Check(role, "ok", f"{members} process(es) at {where}{waiting}")


def database(url: str, log: SourceLog | None) -> Iterator[Check]:
    engine = create_engine(url, connect_args={"connect_timeout": 5})
    try:
        with engine.connect() as connection:
            before = time.time()
            version, theirs = connection.execute(
                text("select current_setting('server_version'), extract(epoch from clock_timestamp())")
            ).one()
            yield Check("PostgreSQL", "ok", f"version {version}")
            yield clock("PostgreSQL's clock", float(theirs) - (before + time.time()) / 2)
            yield from read_models(connection, log)
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        yield Check(
            "PostgreSQL",
            "wrong",
            reason,
            "is it running, and is SIGNALBOX_POSTGRES its address as seen from here? Meanwhile commands "
            "are decided and gateways serve; queries are answered with 503",
        )
    finally:
        engine.dispose()


def clock(what: str, ahead: float) -> Check:
    """`ahead` of this machine's clock, in seconds."""
    if abs(ahead) <= CLOCK_SECONDS:
        return Check(what, "ok", f"{abs(ahead) * 1000:.0f} ms from this machine's")
    description = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    return Check(what, "wrong", description, "synchronise the clocks of both machines by NTP")


def read_models(connection: Connection, log: SourceLog | None) -> Iterator[Check]:
    """The lag of each live read model, and the number of dead letters. Without `log`, Kafka is away."""
    if not inspect(connection).has_table(CHECKPOINTS.name):
        yield Check("read models", "note", "there are none yet", "signalbox run projector")
        return
    other = log and log_difference(connection, log)
    if log and other:
        found = f"computed from another log: {other}. This log is {log.name}"
        yield Check("read models", "wrong", found, OTHER_DATABASE)
        return
    if log is None or log.ends is None:
        yield Check("read models", "note", "their lag is not known: the log could not be read")
    else:
        yield from _lags(connection, log.ends)
    parked = connection.execute(
        select(func.count()).select_from(PARKED).where(PARKED.c.skipped_at.is_(None))
    ).scalar_one()
    if parked:
        yield Check("parked", "wrong", f"{parked:,} events could not be handled", "signalbox parked list")


def _lags(connection: Connection, ends: Positions) -> Iterator[Check]:
    c, g = CHECKPOINTS.c, GENERATIONS.c
    live = (g.read_model == c.read_model) & (g.generation == c.generation) & (g.state == "live")
    rows = connection.execute(select(c.read_model, c.topic, c.partition, c.position).join(GENERATIONS, live))
    behind: dict[str, int] = {}
    for name, topic, partition, position in rows:
        behind[name] = behind.get(name, 0) + max(0, ends.get((topic, partition), 0) - position)
    for name, lag in sorted(behind.items()):
        if lag > MUCH:
            yield Check(f"read model {name}", "wrong", f"{lag:,} events behind", "does a projector run?")
        else:
            yield Check(f"read model {name}", "ok", f"{lag:,} events behind")


def keys(settings: Settings) -> Iterator[Check]:
    """Whether the keys for signing and verifying commands are usable."""
    for what, file in (
        ("administrator's token", settings.admin_token),
        ("signing key", settings.signing_key),
        ("tokens' key", settings.token_key),
    ):
        if not file.exists():
            yield Check(what, "note", f"{file} does not exist", "the role api creates it at its first start")
            continue
        try:
            if file == settings.signing_key:
                signing_key(file)
            yield _private(what, file)
        except (KeyFileError, OSError) as error:
            yield Check(what, "wrong", str(error), "restore it from a backup, or remove it for a new one")
    try:
        trusted = read_trusted(settings.trusted_keys)
    except (KeyFileError, OSError) as error:
        yield Check("trusted keys", "wrong", str(error), "no command is accepted until it is repaired")
        return
    if trusted:
        names = ", ".join(sorted({key.issuer for key in trusted.values()}))
        yield Check("trusted keys", "ok", f"{len(trusted)} of {names} in {settings.trusted_keys}")
    else:
        yield Check(
            "trusted keys",
            "note",
            f"{settings.trusted_keys} holds none",
            "role api adds its own; all processes need the same directory (--secrets)",
        )


def _private(what: str, file: Path) -> Check:
    if file.stat().st_mode & 0o077:
        return Check(what, "wrong", f"others may read {file}", f"chmod 600 {file}")
    return Check(what, "ok", str(file))
