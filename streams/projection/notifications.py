"""Notifications of committed checkpoints, for other processes on the same PostgreSQL."""

from collections.abc import Mapping
from itertools import islice

import orjson
from sqlalchemy import Connection

from projections.databases.dialect import dialect_of

CHANNEL = "signalbox_checkpoints"
_MOST = 100  # checkpoints in a payload, which holds 8,000 bytes

ReadModelPartition = tuple[str, int]
"""A read model's name and a partition."""


def notify(connection: Connection, places: Mapping[ReadModelPartition, int]) -> None:
    """Sends checkpoints when the transaction commits; on SQLite no other process listens."""
    dialect = dialect_of(connection)
    if not dialect.shared:
        return
    each = iter(places.items())
    while some := list(islice(each, _MOST)):
        payload = orjson.dumps([[name, partition, at] for (name, partition), at in some]).decode()
        dialect.notify(connection, CHANNEL, payload)


def notified(payload: str) -> dict[ReadModelPartition, int]:
    """The checkpoints in a payload."""
    return {(name, partition): at for name, partition, at in orjson.loads(payload)}
