"""Access to a development Kafka: it has one user, whose password is kept in the broker's directory.

Every process on the machine can connect to loopback. Clients authenticate with SCRAM, so that a process that
listens on the broker's port while it is down does not get the password. The broker itself is a second user
(PLAIN), whose password changes with every start: for the controller's listener, and to create the first user
in data directories without one.
"""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from signalbox.data_directory.tokens import kept_secret
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
    """The settings of a client of the broker of `directory`. A missing password is created.

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
    """The broker's settings that require authentication on both listeners; addresses are HOST:PORT."""
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
        # SCRAM credentials are in the metadata that this listener serves, so it cannot use SCRAM itself.
        f"{internal}.sasl.enabled.mechanisms": "PLAIN",
        f"{internal}.plain.sasl.jaas.config": plain,
    }


def own_properties(own_password: str) -> dict[str, str]:
    """The settings of Kafka's own programs that authenticate as the broker's user."""
    return {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.jaas.config": _jaas(_PLAIN, BROKER, own_password),
    }


def credential(password: str) -> str:
    """The user's credential as an argument of Kafka's programs."""
    return f"{MECHANISM}=[name={USER},password={password}]"


def client_properties(settings: KafkaSettings) -> dict[str, str]:
    """The properties of Java clients and Kafka's own programs."""
    return {
        "bootstrap.servers": settings.bootstrap,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": settings.mechanism,
        "sasl.jaas.config": _jaas(_SCRAM, settings.username, settings.password),
    }


def properties(settings: Mapping[str, str]) -> str:
    """A Java properties file; only backslashes in values are escaped."""
    return "".join(f"{name}={value}\n".replace("\\", "\\\\") for name, value in settings.items())


def exports(variables: Mapping[str, str]) -> str:
    """Lines for a shell."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def _jaas(module: str, user: str, password: str, **options: str) -> str:
    given = {"username": user, "password": password, **options}
    return f"{module} required " + " ".join(f'{name}="{value}"' for name, value in given.items()) + ";"
