"""What PostgreSQL tells everybody who listens: how far a read model has come, once that is committed."""

from collections.abc import Mapping
from itertools import islice

import orjson
from sqlalchemy import Connection, func, select

CHANNEL = "signalbox_checkpoints"
_MOST = 100  # places in a payload, which holds 8,000 bytes

ReadModelPartition = tuple[str, int]
"""A read model's name and a partition."""


def notify(connection: Connection, places: Mapping[ReadModelPartition, int]) -> None:
    """Tells of `places` when the transaction commits; on SQLite there is nobody to tell."""
    if connection.dialect.name != "postgresql":
        return
    each = iter(places.items())
    while some := list(islice(each, _MOST)):
        payload = orjson.dumps([[name, partition, at] for (name, partition), at in some]).decode()
        connection.execute(select(func.pg_notify(CHANNEL, payload)))


def notified(payload: str) -> dict[ReadModelPartition, int]:
    """What a notice says."""
    return {(name, partition): at for name, partition, at in orjson.loads(payload)}
