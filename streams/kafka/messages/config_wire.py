"""An entry as a message of the config topic: the body as value, its identity in the key, all other fields
in one header. A removal is a tombstone."""

from collections.abc import Iterable
from sys import intern

import orjson

from gateways.config_resource import ConfigResource, DeploymentRef

HEADER = "entry"
Encoded = tuple[bytes, bytes | None, list[tuple[str, bytes]]]
"""Key, value and headers."""


def encode(entry: ConfigResource, *, last: bool) -> Encoded:
    """`last` marks the last entry of a put: readers apply the entries of a put together.

    Raises UnicodeEncodeError for invalid text.
    """
    header = orjson.dumps(
        (
            int(last),
            entry.kind,
            entry.version,
            entry.position,
            entry.requires,
            [(c.deployment, c.api, c.revision, c.context, c.host) for c in entry.deployments],
        )
    )
    key = f"{entry.gateway}\n{entry.type}\n{entry.name}".encode()
    return key, entry.body or None, [(HEADER, header)]


def decode(
    key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes]]
) -> tuple[ConfigResource, bool]:
    """The entry, and whether it is the last of its put. Raises ValueError for messages of another form."""
    try:
        gateway, type, name = (key or b"").decode().split("\n", 2)
        header = next((content for given, content in headers if given == HEADER), b"")
        last, kind, version, position, requires, refs = orjson.loads(header)
        entry = ConfigResource(
            intern(gateway),
            intern(kind),
            intern(type),
            name,
            version,
            position,
            value or b"",
            tuple((type, name) for type, name in requires),
            tuple(DeploymentRef(*ref) for ref in refs),
        )
    except (ValueError, TypeError) as error:
        raise ValueError(f"no entry: {error}") from error
    return entry, bool(last)
