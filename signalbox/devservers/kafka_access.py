"""Who may use a development Kafka: its one user, whose password is kept in the broker's directory.

Everybody on the machine can open a connection to loopback. Clients authenticate with SCRAM, so that a
process that takes the broker's port while it is down learns nothing. The broker itself is a second user, by
PLAIN, whose password changes with every start: on the controller's listener, and to make the first user in
data that have none.
"""

import os
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from signalbox.tokens import kept_secret
from streams.kafka.settings import KafkaSettings

MECHANISM = "SCRAM-SHA-256"
USER = "signalbox"
BROKER = "broker"
"""The name of the broker's own user."""
CLIENTS, CONTROLLER = "CLIENTS", "CONTROLLER"
"""The names of the listeners."""
PASSWORD = "password"
PROPERTIES = "client.properties"
ENVIRONMENT = "environment"

_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"


def access(directory: Path, bootstrap: str) -> KafkaSettings:
    """How a client of ours reaches the broker of `directory`. The password is made when missing.

    Raises OSError.
    """
    password = kept_secret(directory / PASSWORD, "")
    return KafkaSettings(bootstrap=bootstrap, mechanism=MECHANISM, username=USER, password=password)


def with_access(settings: KafkaSettings, directory: Path, bootstrap: str) -> KafkaSettings:
    """`settings`, for the broker of `directory`. Raises OSError."""
    own = access(directory, bootstrap)
    return replace(
        settings,
        bootstrap=bootstrap,
        mechanism=own.mechanism,
        username=own.username,
        password=own.password,
        tls=False,
        ca="",
        certificate="",
        key="",
    )


def listener_settings(clients: str, controller: str, password: str, own_password: str) -> dict[str, str]:
    """The broker's settings that close both of its listeners; addresses are HOST:PORT."""
    internal, external = f"listener.name.{CONTROLLER.lower()}", f"listener.name.{CLIENTS.lower()}"
    plain = _jaas(_PLAIN, BROKER, own_password, **{f"user_{BROKER}": own_password})
    return {
        "listeners": f"{CLIENTS}://{clients},{CONTROLLER}://{controller}",
        "advertised.listeners": f"{CLIENTS}://{clients}",
        "listener.security.protocol.map": f"{CLIENTS}:SASL_PLAINTEXT,{CONTROLLER}:SASL_PLAINTEXT",
        "controller.listener.names": CONTROLLER,
        "inter.broker.listener.name": CLIENTS,
        "sasl.mechanism.inter.broker.protocol": MECHANISM,
        "sasl.mechanism.controller.protocol": "PLAIN",
        f"{external}.sasl.enabled.mechanisms": f"{MECHANISM},PLAIN",
        f"{external}.{MECHANISM.lower()}.sasl.jaas.config": _jaas(_SCRAM, USER, password),
        f"{external}.plain.sasl.jaas.config": plain,
        # SCRAM credentials are in the metadata that this listener serves, so it cannot use them itself.
        f"{internal}.sasl.enabled.mechanisms": "PLAIN",
        f"{internal}.plain.sasl.jaas.config": plain,
    }


def own_properties(own_password: str) -> dict[str, str]:
    """The settings of Kafka's own programs that work as the broker's user."""
    return {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.jaas.config": _jaas(_PLAIN, BROKER, own_password),
    }


def credential(password: str) -> str:
    """The user's credential as Kafka's programs take it."""
    return f"{MECHANISM}=[name={USER},password={password}]"


def client_properties(settings: KafkaSettings) -> dict[str, str]:
    """What Java clients and Kafka's own programs take."""
    return {
        "bootstrap.servers": settings.bootstrap,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": settings.mechanism,
        "sasl.jaas.config": _jaas(_SCRAM, settings.username, settings.password),
    }


def properties(settings: Mapping[str, str]) -> str:
    """A Java properties file. In a value only the backslash means anything."""
    return "".join(f"{name}={value}\n".replace("\\", "\\\\") for name, value in settings.items())


def exports(variables: Mapping[str, str]) -> str:
    """Lines for a shell."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def write_private(file: Path, text: str) -> None:
    """Replaces `file`, which only its owner can read. Raises OSError."""
    beside = file.with_name(file.name + ".new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    beside.replace(file)


def _jaas(module: str, user: str, password: str, **options: str) -> str:
    given = {"username": user, "password": password, **options}
    return f"{module} required " + " ".join(f'{name}="{value}"' for name, value in given.items()) + ";"
