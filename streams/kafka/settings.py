"""The connection of a process to Kafka, and the names of its topics."""

import ssl
from dataclasses import dataclass, field
from typing import Any

from projections.source_log import SourceLog
from schemas.limits import LARGEST_COMMAND


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """`partitions` and `replication` are used to create topics; existing topics are checked.

    `ca`, `certificate` and `key` are files (PEM) for TLS and mutual TLS; `mechanism` is a SASL mechanism
    (`PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`), with `username` and `password`.
    """

    bootstrap: str = "127.0.0.1:9092"
    prefix: str = "signalbox"
    partitions: int = 4
    replication: int = 1
    session_timeout_ms: int = 10_000
    max_message: int = LARGEST_COMMAND
    """The maximal bytes of one message, headers included."""
    tls: bool = False
    ca: str = ""
    certificate: str = ""
    key: str = ""
    mechanism: str = ""
    username: str = ""
    password: str = field(default="", repr=False)

    def topic(self, name: str) -> str:
        return f"{self.prefix}.{name}"

    def group(self, name: str) -> str:
        """The name of a consumer group, and the prefix of transactional ids."""
        return f"{self.prefix}-{name}"

    def client(self) -> dict[str, Any]:
        """The arguments of every aiokafka client. Raises OSError or ssl.SSLError for unusable files."""
        options: dict[str, Any] = {"bootstrap_servers": self.bootstrap}
        protocol = ("SASL_" if self.mechanism else "") + ("SSL" if self.tls else "PLAINTEXT")
        options["security_protocol"] = protocol
        if self.tls:
            context = ssl.create_default_context(cafile=self.ca or None)
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key or None)
            options["ssl_context"] = context
        if self.mechanism:
            options |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return options


def source_log(settings: KafkaSettings, identity: str) -> SourceLog:
    """`identity`: the ids of the cluster and of the topic of events."""
    return SourceLog(identity, f"{settings.topic('events')} in Kafka (cluster and topic {identity})")
