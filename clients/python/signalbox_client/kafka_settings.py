"""The connection to Kafka and the names of the topics."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.limits import LARGEST_COMMAND

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_SWITCH = {"": False, "off": False, "no": False, "false": False, "0": False} | {
    "on": True,
    "yes": True,
    "true": True,
    "1": True,
}


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """`ca`, `certificate` and `key` are files (PEM) for TLS and mutual TLS; `mechanism` is a SASL mechanism
    (`PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`), with `username` and `password`."""

    bootstrap: str = "127.0.0.1:9092"
    prefix: str = "signalbox"
    max_message: int = LARGEST_COMMAND
    """Bytes of one command, headers included, as the commands topic accepts them."""
    tls: bool = False
    ca: str = ""
    certificate: str = ""
    key: str = ""
    mechanism: str = ""
    username: str = ""
    password: str = field(default="", repr=False)

    def topic(self, name: str) -> str:
        return f"{self.prefix}.{name}"

    def client(self) -> dict[str, Any]:
        """Options of an aiokafka client. Raises OSError or ssl.SSLError for files that cannot be used."""
        protocol = ("SASL_" if self.mechanism else "") + ("SSL" if self.tls else "PLAINTEXT")
        options: dict[str, Any] = {"bootstrap_servers": self.bootstrap, "security_protocol": protocol}
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


def from_environment(servers: str, environment: Mapping[str, str] = os.environ) -> KafkaSettings:
    """Settings for these servers, the rest from `SIGNALBOX_KAFKA_*`. Raises ValueError."""

    def variable(name: str) -> str:
        return environment.get(f"SIGNALBOX_KAFKA_{name}", "")

    def file(name: str) -> str:
        path = variable(name)
        _require(
            not path or Path(path).is_file(),
            f"SIGNALBOX_KAFKA_{name} names a file; there is none at {path!r}.",
        )
        return path

    tls, largest = variable("TLS").lower(), variable("MAX_MESSAGE") or str(LARGEST_COMMAND)
    mechanism, username = variable("MECHANISM"), variable("USERNAME")
    prefix = environment.get("SIGNALBOX_KAFKA_PREFIX", KafkaSettings().prefix)
    ca, certificate, key = file("CA"), file("CERTIFICATE"), file("KEY")
    _require(tls in _SWITCH, f"SIGNALBOX_KAFKA_TLS takes 'on' or 'off'; {tls!r} is neither.")
    _require(
        largest.isdecimal() and 10_000 <= int(largest) <= 100_000_000,
        f"SIGNALBOX_KAFKA_MAX_MESSAGE takes a number from 10000 to 100000000; {largest!r} is not.",
    )
    _require(
        prefix != "" and all(c.isalnum() or c in "._-" for c in prefix),
        f"SIGNALBOX_KAFKA_PREFIX takes letters, digits, '.', '_' and '-'; {prefix!r} has others or none.",
    )
    _require(
        not mechanism or mechanism in MECHANISMS,
        f"SIGNALBOX_KAFKA_MECHANISM takes {', '.join(MECHANISMS)}; {mechanism!r} is none of them.",
    )
    _require(
        not mechanism or username != "",
        "SIGNALBOX_KAFKA_MECHANISM is set: set SIGNALBOX_KAFKA_USERNAME and SIGNALBOX_KAFKA_PASSWORD too.",
    )
    _require(
        _SWITCH[tls] or not (ca or certificate or key),
        "SIGNALBOX_KAFKA_CA, _CERTIFICATE and _KEY need SIGNALBOX_KAFKA_TLS=on.",
    )
    _require(not key or certificate != "", "SIGNALBOX_KAFKA_KEY needs SIGNALBOX_KAFKA_CERTIFICATE beside it.")
    return KafkaSettings(
        bootstrap=servers,
        prefix=prefix,
        max_message=int(largest),
        tls=_SWITCH[tls],
        ca=ca,
        certificate=certificate,
        key=key,
        mechanism=mechanism,
        username=username,
        password=variable("PASSWORD"),
    )


def _require(holds: bool, sentence: str) -> None:
    """Raises ValueError."""
    if not holds:
        raise ValueError(sentence)
