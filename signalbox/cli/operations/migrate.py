"""`signalbox migrate`."""

import asyncio
import os
import shutil
import tempfile
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from signalbox.cli.failure import DONE, USAGE, Failure
from signalbox.cli.operations.stopped_log import require_no_members
from signalbox.cli.output import OutputFormat, emit, formed, note, on_terminal

if TYPE_CHECKING:
    from signalbox.settings import Settings
    from streams.migration import Proof


@click.command()
@click.option("--from", "source", metavar="DIR", required=True, help="The embedded data directory.")
@click.option("--secrets", metavar="DIR", help="The roles' directory for tokens and keys. [default: DIR]")
@formed
def migrate(source: str, secrets: str | None, form: OutputFormat) -> int:
    """Copy a stopped embedded Signalbox to Kafka and PostgreSQL, and verify the copy.

    SIGNALBOX_KAFKA, SIGNALBOX_KAFKA_PREFIX and SIGNALBOX_POSTGRES name the target; its topics must be empty
    and no role may run there. Order, positions, ids and the hash chain are preserved; tokens and keys are
    copied. The directory is not changed. An interrupted migration can be started again.
    """
    from signalbox.settings import SettingsError, from_environment, require_services
    from streams.documents import DocumentDamaged
    from streams.kafka.security.integrity_key import IntegrityKeyError
    from streams.kafka.security.keys import KeyFileError
    from streams.log import LogError
    from streams.sqlite.lock import DirectoryInUse

    if not (Path(source) / "log.db").is_file():
        raise Failure(f"{source} holds no embedded Signalbox", "name the directory given to --data", USAGE)
    try:
        settings = from_environment(engine="kafka", data=source, secrets=secrets)
        require_services(settings, ["api"])
        proof = asyncio.run(_migrate(settings))
    except SettingsError as error:
        raise Failure(str(error), code=USAGE) from error
    except DirectoryInUse as error:
        raise Failure(f"{source} is in use", "stop Signalbox first") from error
    except (LogError, KeyFileError, IntegrityKeyError, DocumentDamaged, OSError) as error:
        raise Failure(str(error), "nothing is lost: the directory is unchanged") from error
    _print(settings, proof, form)
    return DONE


async def _migrate(settings: "Settings") -> "Proof":
    from signalbox.roles import CONSUMER_GROUPS
    from streams.documents import DocumentStore
    from streams.kafka.config import KafkaConfigTopic
    from streams.kafka.log import KafkaLog
    from streams.kafka.security.authority import open_authority
    from streams.migration import Embedded, Target, migrate
    from streams.postgres.documents import PostgresDocuments
    from streams.projection.opening import open_store_of
    from streams.sqlite.config import SqliteConfigTopic
    from streams.sqlite.documents import SqliteDocuments
    from streams.sqlite.lock import DirectoryLock
    from streams.sqlite.log import SqliteLog

    directory = settings.data
    async with AsyncExitStack() as parts:
        lock = DirectoryLock(directory)
        parts.callback(lock.release)
        log = await SqliteLog.open(directory, lock=lock)
        parts.push_async_callback(log.close)
        config = await SqliteConfigTopic.open(directory)
        parts.push_async_callback(config.close)
        documents = await SqliteDocuments.open(directory)
        parts.push_async_callback(documents.close)
        settings.secrets_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        # First: opening the authority and the log creates missing keys.
        _copy_files(settings)
        authority = open_authority(settings.signing_key, settings.trusted_keys, settings.token_key)
        index = parts.enter_context(tempfile.TemporaryDirectory(prefix="signalbox-"))
        target_log = await KafkaLog.open(settings.kafka, Path(index), integrity_key=settings.integrity_key)
        parts.push_async_callback(target_log.close)
        await require_no_members(settings.kafka, CONSUMER_GROUPS)
        target_config = await KafkaConfigTopic.open(settings.kafka, target_log.integrity)
        parts.push_async_callback(target_config.close)

        async def target_documents() -> DocumentStore:
            (await open_store_of(target_log, settings.postgres)).close()
            opened = await PostgresDocuments.open(settings.postgres)
            parts.push_async_callback(opened.close)
            return opened

        return await migrate(
            Embedded(directory, log, config, documents),
            Target(target_log, target_config, target_documents, authority),
            _show if on_terminal() else lambda what, count: None,
        )


def _show(what: str, count: int) -> None:
    click.echo(f"\r\033[K{what}: {count:,}", nl=False, err=True)


def _copy_files(settings: "Settings") -> None:
    """Copies tokens and keys, so that gateways and callers keep theirs, and the port behind the sample API,
    which may be deployed to several gateways. Existing files are kept.

    The key of MACs is not copied: it belongs to the topics.
    """
    from signalbox.settings import Settings

    source = Settings(data=settings.data)
    target = replace(settings, data=Path(os.environ.get("SIGNALBOX_DATA") or settings.secrets_directory))
    secrets = zip(source.secret_files, target.secret_files, strict=True)
    moved = [(file, copy) for file, copy in secrets if copy != target.integrity_key]
    for file, copy in (*moved, (source.demo_port, target.demo_port)):
        if file.exists() and not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            shutil.copy2(file, copy)
        elif file.exists() and copy.read_bytes() != file.read_bytes():
            note(f"{copy} is kept; it differs from {file}.")


def _print(settings: "Settings", proof: "Proof", form: OutputFormat) -> None:
    if form != "table":
        emit(
            {
                "topics": [
                    {
                        "topic": s.topic,
                        "partition": s.partition,
                        "records": s.records,
                        "last": s.last,
                        "digest": s.digest,
                    }
                    for s in proof.digests
                ],
                "chains": [
                    {"partition": c.partition, "events": c.events, "last": c.last, "head": c.head}
                    for c in proof.chains
                ],
                "undecided": proof.undecided,
                "configuration": proof.entries,
                "documents": proof.documents,
            },
            form,
        )
        return
    if on_terminal():
        click.echo("\r\033[K", nl=False, err=True)
    click.echo("Verified, by reading the topics again: both sides are equal.\n")
    for stretch in proof.digests:
        place = f"{stretch.topic}/{stretch.partition}"
        click.echo(
            f"  {place:12} {stretch.records:>10,} records to position {stretch.last:,}, "
            f"SHA-256 {stretch.digest[:16]}"
        )
    for chain in proof.chains:
        click.echo(
            f"  chain of events/{chain.partition}: {chain.events:,} events follow each other, "
            f"the last hashes to {chain.head[:16]}"
        )
    click.echo(f"  {proof.entries:,} entries of configuration, {proof.documents:,} documents")
    if proof.undecided:
        click.echo(f"  {proof.undecided:,} commands are still to be decided")
    note(
        f"\n{settings.data} is unchanged; do not start Signalbox on it again. "
        "Start `signalbox run` with the same settings: read models are computed from the events."
    )
