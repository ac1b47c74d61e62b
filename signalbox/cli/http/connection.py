"""The server's address, the organization and the token: from options, environment, profile file, or a local
`signalbox up`."""

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec
from urllib.parse import urlsplit

import click

from signalbox.cli.failure import USAGE, Failure
from signalbox.data_directory.listen_addresses import read_listen_addresses

DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_SERVER = f"that of the data directory, or {DEFAULT_URL}"
DEFAULT_ORGANIZATION = "default"
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
"""The loopback addresses for listen addresses that are no destinations."""
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Connection:
    """`url` without a slash at its end; `token` may be empty. `configured`: an option, a variable or a
    profile has the URL."""

    url: str
    organization: str
    token: str = field(repr=False)
    configured: bool = True

    @property
    def local(self) -> bool:
        return not self.configured or urlsplit(self.url).hostname in ("127.0.0.1", "localhost", "::1")


def connection(
    url: str | None = None, organization: str | None = None, profile: str | None = None
) -> Connection:
    """The connection from the options, else the environment, else the profile, else the defaults.

    The default server is that of the data directory, while it runs. The token of a `signalbox up` with the
    same data directory is only sent to this machine.
    Raises Failure.
    """
    env = os.environ
    chosen = _profile(profile or env.get("SIGNALBOX_PROFILE"), env)
    configured = url or env.get("SIGNALBOX_URL") or chosen.get("url")
    where = (configured or local_url(env)).rstrip("/")
    parts = urlsplit(where)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Failure(f"{where!r} is not an HTTP address", f"give one like {DEFAULT_URL}", USAGE)
    found = Connection(
        where,
        organization or env.get("SIGNALBOX_ORG") or chosen.get("org") or DEFAULT_ORGANIZATION,
        (env.get("SIGNALBOX_TOKEN") or chosen.get("token") or "").strip(),
        bool(configured),
    )
    file = local_token(env)
    if found.token or not found.local or not file.is_file():
        return found
    try:
        return replace(found, token=file.read_text().strip())
    except PermissionError as error:
        raise Failure(f"cannot read {file}", "it belongs to another user") from error


def local_url(env: Mapping[str, str]) -> str:
    """The URL of the Signalbox that uses the data directory of these variables, else the default."""
    listening = read_listen_addresses(Path(env.get("SIGNALBOX_DATA") or ".signalbox")).get("http")
    if listening is None:
        return DEFAULT_URL
    host, _, port = listening.rpartition(":")
    return f"http://{ANY_ADDRESS.get(host, host)}:{port}"


def local_token(env: Mapping[str, str]) -> Path:
    """The file of the administrator's token of a `signalbox up` with these variables."""
    directory = env.get("SIGNALBOX_SECRETS") or env.get("SIGNALBOX_DATA") or ".signalbox"
    return Path(directory) / "admin.token"


def profile_file(env: Mapping[str, str]) -> Path:
    home = Path(env.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return Path(env.get("SIGNALBOX_CONFIG") or home / "signalbox" / "config.toml")


def _profile(name: str | None, env: Mapping[str, str]) -> Mapping[str, str]:
    """`[profiles.<name>]` with `url`, `token`, `org`; `current = "<name>"` is the default profile."""
    file = profile_file(env)
    try:
        content = tomllib.loads(file.read_text())
    except FileNotFoundError as error:
        if name is None:
            return {}
        raise Failure(f"there is no profile {name!r}: {file} does not exist", code=USAGE) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Failure(f"{file} is not TOML: {error}") from error
    name = name or content.get("current")
    if name is None:
        return {}
    known = content.get("profiles", {})
    if name not in known:
        raise Failure(
            f"there is no profile {name!r} in {file}", f"it has: {', '.join(known) or 'none'}", USAGE
        )
    return {key: str(value) for key, value in known[name].items()}


def connected(command: Callable[Concatenate[Connection, P], int]) -> Callable[P, int]:
    """Adds the options for server and organization, and passes the connection."""

    @click.option("--url", metavar="URL", help=f"The server. [SIGNALBOX_URL; default: {DEFAULT_SERVER}]")
    @click.option("--org", metavar="NAME", help="The organization. [SIGNALBOX_ORG; default 'default']")
    @click.option("--profile", metavar="NAME", help="A profile of ~/.config/signalbox/config.toml.")
    @wraps(command)
    def with_connection(*args: P.args, **kwargs: P.kwargs) -> int:
        url, organization, profile = (kwargs.pop(name, None) for name in ("url", "org", "profile"))
        return command(connection(_text(url), _text(organization), _text(profile)), *args, **kwargs)

    return with_connection


def _text(value: object) -> str | None:
    return None if value is None else str(value)
