"""What a process is told: where it listens, where it keeps data, which parts it runs."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class SettingsError(ValueError):
    """A setting that cannot be; the sentence says which and what it takes."""


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
    """Settings of one process (command line options win over `SIGNALBOX_*` variables)."""

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

    @property
    def admin_token(self) -> Path:
        return self.data / "admin.token"

    @property
    def gateway_token(self) -> Path:
        return self.data / "gateway.token"


def from_environment(environment: Mapping[str, str] = os.environ, **options: str | bool | None) -> Settings:
    """Settings from options that are not None, then `SIGNALBOX_DATA|HTTP|XDS|GATEWAY|ENGINE`, then defaults.

    Raises SettingsError.
    """

    def text(name: str, default: str) -> str:
        value = options.get(name)
        return str(value) if value is not None else environment.get(f"SIGNALBOX_{name.upper()}", default)

    default = Settings()
    engine = text("engine", default.engine)
    if engine != "embedded":
        raise SettingsError(f"--engine takes 'embedded'; {engine!r} is not built yet.")
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
    )
