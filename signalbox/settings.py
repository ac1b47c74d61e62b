"""Settings of a process: its addresses, directories and services."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateways.upstream_access import NetworkPort, network_port
from signalbox.roles import ROLES
from streams.kafka.settings import KafkaSettings

ENGINES = ("embedded", "kafka")
NO_KAFKA = KafkaSettings(bootstrap="")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
YES = frozenset({"on", "yes", "true", "1"})
NO = frozenset({"off", "no", "false", "0", ""})


class SettingsError(ValueError):
    """An invalid setting. The message names it and its valid values."""


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self}"

    @property
    def reached(self) -> "Address":
        """The address by which clients on this machine connect: `0.0.0.0` and `::` are no destinations."""
        loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}
        return Address(loopback.get(self.host, self.host), self.port)


def address(text: str, option: str) -> Address:
    """`HOST:PORT`, `[::1]:PORT` or `PORT` (on loopback). Raises SettingsError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if colon else "127.0.0.1"
    host = "127.0.0.1" if host == "localhost" else host
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise SettingsError(
            f"{option} takes HOST:PORT, such as 127.0.0.1:8080, with a port from 1 to 65535; {text!r} is not."
        )
    return Address(host, int(port))


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one process (command line options override `SIGNALBOX_*` variables).

    `kafka.bootstrap` and `postgres` are empty when they are not set: `up` then starts its own.
    """

    data: Path = Path(".signalbox")
    http: Address = Address("127.0.0.1", 8080)
    xds: Address = Address("127.0.0.1", 18000)
    gateway: Address = Address("127.0.0.1", 8000)
    engine: str = "embedded"
    envoy: bool = True
    sample: bool = True
    max_body: int = 10 * 1024 * 1024
    otlp: bool = False
    json_logs: bool = False
    kafka: KafkaSettings = NO_KAFKA
    postgres: str = field(default="", repr=False)
    """URL, with the driver: `postgresql+psycopg://…`."""
    secrets: Path | None = None
    """The directory of tokens and keys that several processes share; default: `data`."""
    own_signing_key: Path | None = None
    own_trusted_keys: Path | None = None
    health: Address | None = None
    kafka_clients: Path | None = None
    """A file of shell variables for clients of the Kafka that `up` started."""
    closed_upstreams: tuple[NetworkPort, ...] = ()
    """Networks and ports that upstreams must not use, beside Signalbox's own addresses."""
    xds_certificate: Path | None = None
    """The certificate chain of the xDS server, in PEM with the leaf first; without it xDS is plaintext."""
    xds_key: Path | None = None
    xds_ca: Path | None = None
    """The CA with which Envoys that are started here verify xDS servers."""
    xds_plaintext: bool = False
    """Allows plaintext even if xDS does not listen on loopback."""
    first_start: bool = False
    """The role `api` creates the default resources."""

    @property
    def addresses(self) -> Mapping[str, Address]:
        """The addresses where this process listens, by option."""
        return {"http": self.http, "xds": self.xds, "gateway": self.gateway}

    @property
    def secrets_directory(self) -> Path:
        return self.secrets or self.data

    @property
    def admin_token(self) -> Path:
        return self.secrets_directory / "admin.token"

    @property
    def gateway_token(self) -> Path:
        return self.secrets_directory / "gateway.token"

    @property
    def probe_key(self) -> Path:
        directory = self.secrets_directory if self.engine == "kafka" else self.data
        return directory / "probe.key"

    @property
    def integrity_key(self) -> Path:
        """The key file for MACs of Signalbox's own messages on Kafka; created when missing."""
        return self.secrets_directory / "integrity.key"

    @property
    def token_key(self) -> Path:
        """The key file that the secrets of tokens for commands are derived from; created when missing."""
        return self.secrets_directory / "tokens.key"

    @property
    def signing_key(self) -> Path:
        """The private key that signs the commands of HTTP callers; created when missing."""
        return self.own_signing_key or self.secrets_directory / "signing.jwk"

    @property
    def trusted_keys(self) -> Path:
        """The public keys whose tokens are accepted."""
        return self.own_trusted_keys or self.secrets_directory / "trusted.jwks"

    @property
    def secret_files(self) -> tuple[Path, ...]:
        """The files of tokens and keys, in the same order for all settings."""
        return (
            self.admin_token,
            self.gateway_token,
            self.probe_key,
            self.integrity_key,
            self.token_key,
            self.signing_key,
            self.trusted_keys,
        )

    @property
    def demo_port(self) -> Path:
        """The file with the port of the service behind the sample API."""
        return self.data / "demo.port"


def from_environment(environment: Mapping[str, str] = os.environ, **options: str | bool | None) -> Settings:
    """Settings from options that are not None, then variables `SIGNALBOX_*`, then defaults.

    Raises SettingsError.
    """

    def text(name: str, default: str) -> str:
        value = options.get(name)
        return str(value) if value is not None else environment.get(f"SIGNALBOX_{name.upper()}", default)

    default = Settings()
    engine = text("engine", default.engine)
    if engine not in ENGINES:
        raise SettingsError(f"--engine takes 'embedded' or 'kafka'; {engine!r} is neither.")
    health = text("health", "")
    certificate, key = (_path(environment, f"SIGNALBOX_XDS_{what}") for what in ("CERTIFICATE", "KEY"))
    if bool(certificate) != bool(key):
        raise SettingsError("SIGNALBOX_XDS_CERTIFICATE and SIGNALBOX_XDS_KEY need each other.")

    def path(name: str) -> Path | None:
        given = text(name, "")
        return Path(given) if given else None

    return Settings(
        data=Path(text("data", str(default.data))),
        http=address(text("http", str(default.http)), "--http"),
        xds=address(text("xds", str(default.xds)), "--xds"),
        gateway=address(text("gateway", str(default.gateway)), "--gateway"),
        engine=engine,
        envoy=options.get("envoy") is not False,
        sample=options.get("sample") is not False,
        otlp="OTEL_EXPORTER_OTLP_ENDPOINT" in environment,
        json_logs=text("logs", "") == "json",
        kafka=kafka_settings(environment),
        postgres=postgres_url(environment.get("SIGNALBOX_POSTGRES", "")),
        secrets=path("secrets"),
        own_signing_key=path("signing_key"),
        own_trusted_keys=path("trusted_keys"),
        health=address(health, "--health") if health else None,
        closed_upstreams=_places(environment.get("SIGNALBOX_CLOSED_UPSTREAMS", "")),
        xds_certificate=certificate,
        xds_key=key,
        xds_ca=_path(environment, "SIGNALBOX_XDS_CA"),
        xds_plaintext=_yes(environment, "SIGNALBOX_XDS_PLAINTEXT"),
        first_start=options.get("first_start") is True,
    )


def kafka_settings(environment: Mapping[str, str]) -> KafkaSettings:
    """From `SIGNALBOX_KAFKA` and `SIGNALBOX_KAFKA_*`; without the first the bootstrap servers are empty.

    Raises SettingsError.
    """
    bootstrap = environment.get("SIGNALBOX_KAFKA", "").strip()
    for server in bootstrap.split(",") if bootstrap else ():
        address(server.strip(), "SIGNALBOX_KAFKA")
    known = NO_KAFKA
    found = KafkaSettings(
        bootstrap=bootstrap,
        prefix=environment.get("SIGNALBOX_KAFKA_PREFIX", known.prefix),
        partitions=_number(environment, "SIGNALBOX_KAFKA_PARTITIONS", known.partitions, 1, 4096),
        replication=_number(environment, "SIGNALBOX_KAFKA_REPLICATION", known.replication, 1, 32),
        session_timeout_ms=_number(
            environment, "SIGNALBOX_KAFKA_SESSION_TIMEOUT_MS", known.session_timeout_ms, 1000, 1_800_000
        ),
        max_message=_number(
            environment, "SIGNALBOX_KAFKA_MAX_MESSAGE", known.max_message, 10_000, 100_000_000
        ),
        tls=_yes(environment, "SIGNALBOX_KAFKA_TLS"),
        ca=_file(environment, "SIGNALBOX_KAFKA_CA"),
        certificate=_file(environment, "SIGNALBOX_KAFKA_CERTIFICATE"),
        key=_file(environment, "SIGNALBOX_KAFKA_KEY"),
        mechanism=environment.get("SIGNALBOX_KAFKA_MECHANISM", ""),
        username=environment.get("SIGNALBOX_KAFKA_USERNAME", ""),
        password=environment.get("SIGNALBOX_KAFKA_PASSWORD", ""),
    )
    if not found.prefix or not all(c.isalnum() or c in "._-" for c in found.prefix):
        raise SettingsError(
            "SIGNALBOX_KAFKA_PREFIX takes letters, digits, '.', '_' and '-', as topics are named; "
            f"{found.prefix!r} is not."
        )
    if found.mechanism and found.mechanism not in MECHANISMS:
        raise SettingsError(
            f"SIGNALBOX_KAFKA_MECHANISM takes {', '.join(MECHANISMS)}; {found.mechanism!r} is none of them."
        )
    if found.mechanism and not found.username:
        raise SettingsError(
            "SIGNALBOX_KAFKA_MECHANISM is set: set SIGNALBOX_KAFKA_USERNAME and SIGNALBOX_KAFKA_PASSWORD too."
        )
    if not found.tls and (found.ca or found.certificate or found.key):
        raise SettingsError("SIGNALBOX_KAFKA_CA, _CERTIFICATE and _KEY need SIGNALBOX_KAFKA_TLS=on.")
    if found.key and not found.certificate:
        raise SettingsError("SIGNALBOX_KAFKA_KEY needs SIGNALBOX_KAFKA_CERTIFICATE beside it.")
    return found


def kafka_environment(settings: KafkaSettings) -> dict[str, str]:
    """The variables for the connection to Kafka and the topics' prefix, without defaults."""
    known = NO_KAFKA
    values = {
        "": settings.bootstrap,
        "_PREFIX": settings.prefix if settings.prefix != known.prefix else "",
        "_PARTITIONS": _changed(settings.partitions, known.partitions),
        "_REPLICATION": _changed(settings.replication, known.replication),
        "_SESSION_TIMEOUT_MS": _changed(settings.session_timeout_ms, known.session_timeout_ms),
        "_MAX_MESSAGE": _changed(settings.max_message, known.max_message),
        "_TLS": "on" if settings.tls else "",
        "_CA": settings.ca,
        "_CERTIFICATE": settings.certificate,
        "_KEY": settings.key,
        "_MECHANISM": settings.mechanism,
        "_USERNAME": settings.username,
        "_PASSWORD": settings.password,
    }
    return {f"SIGNALBOX_KAFKA{name}": value for name, value in values.items() if value}


def _changed(value: int, default: int) -> str:
    return "" if value == default else str(value)


def postgres_url(text: str) -> str:
    """The URL with the required driver, from any usual form. Raises SettingsError."""
    if not text:
        return ""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in ("postgres", "postgresql", "postgresql+psycopg") or not rest:
        # The text itself may hold a password.
        raise SettingsError(
            "SIGNALBOX_POSTGRES takes a URL such as postgresql://user:password@host:5432/signalbox; "
            "its value is no such URL."
        )
    return f"postgresql+psycopg://{rest}"


def _number(environment: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = environment.get(name, "")
    if not text:
        return default
    if not text.isdecimal() or not least <= int(text) <= most:
        raise SettingsError(f"{name} takes a number from {least} to {most}; {text!r} is not.")
    return int(text)


def _places(text: str) -> tuple[NetworkPort, ...]:
    try:
        return tuple(network_port(each.strip()) for each in text.split(",")) if text.strip() else ()
    except ValueError as error:
        raise SettingsError(
            "SIGNALBOX_CLOSED_UPSTREAMS takes networks or addresses, each also with a port, such as "
            f"10.0.0.0/8,10.1.2.3:8080: {error}."
        ) from error


def _yes(environment: Mapping[str, str], name: str) -> bool:
    text = environment.get(name, "").lower()
    if text not in YES | NO:
        raise SettingsError(f"{name} takes 'on' or 'off'; {text!r} is neither.")
    return text in YES


def _path(environment: Mapping[str, str], name: str) -> Path | None:
    file = _file(environment, name)
    return Path(file) if file else None


def _file(environment: Mapping[str, str], name: str) -> str:
    path = environment.get(name, "")
    if path and not Path(path).is_file():
        raise SettingsError(f"{name} names a file; there is none at {path!r}.")
    return path


def require_services(settings: Settings, roles: Iterable[str]) -> None:
    """Raises SettingsError when `roles` need a service that is not set."""
    if not settings.kafka.bootstrap:
        raise SettingsError(
            "SIGNALBOX_KAFKA must name Kafka's brokers, such as 127.0.0.1:9092; "
            "`signalbox dev kafka` starts one."
        )
    needing = sorted(name for name in roles if ROLES[name].postgres)
    if needing and not settings.postgres:
        raise SettingsError(
            f"SIGNALBOX_POSTGRES must name the database of {', '.join(needing)}, such as "
            "postgresql://user:password@host:5432/signalbox; `signalbox dev postgres` starts one."
        )
