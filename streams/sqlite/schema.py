"""The tables of the log and the statements on them.

One table per topic. Its key is partition and position in one integer, so that a partition is a range of
keys, and the indexes on id and subject include the position.
"""

from functools import lru_cache

from streams.log import TOPICS, Topic
from streams.sqlite.database import Kind

POSITION_BITS = 40
MAX_POSITION = (1 << POSITION_BITS) - 1
MAX_PARTITIONS = 4096

FOUND_BY_ID: frozenset[Topic] = frozenset({"commands", "events", "outcomes", "parked"})
"""Topics with an index on the id; status is written too often and queried too rarely."""


def key_of(partition: int, position: int) -> int:
    return partition << POSITION_BITS | position


def _topic_table(topic: str) -> str:
    table = f"""
CREATE TABLE {topic} (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    subject TEXT NOT NULL,
    rest BLOB NOT NULL
);
CREATE INDEX {topic}_by_subject ON {topic} (subject);
"""
    return table + (f"CREATE INDEX {topic}_by_id ON {topic} (id);" if topic in FOUND_BY_ID else "")


MIGRATIONS: tuple[str, ...] = ()
"""SQL, from version 2 on. A topic that is added to `TOPICS` adds its `_topic_table` here."""

LOG = Kind(
    file="log.db",
    first_version=1,
    synchronous="FULL",
    tables="".join(map(_topic_table, ("commands", "events", "outcomes", "status", "parked")))
    + """
CREATE TABLE ends (
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID;
CREATE TABLE consumed (
    consumer TEXT NOT NULL,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (consumer, topic, partition)
) WITHOUT ROWID;
CREATE TABLE snapshots (
    owner TEXT NOT NULL,
    partition INTEGER NOT NULL,
    subject TEXT NOT NULL,
    position INTEGER NOT NULL,
    state BLOB NOT NULL,
    PRIMARY KEY (owner, partition, subject)
);
CREATE TABLE snapshot_positions (
    owner TEXT NOT NULL,
    partition INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (owner, partition)
) WITHOUT ROWID;
CREATE TABLE settings (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID
""",
    migrations=MIGRATIONS,
)

SET_END = (
    "INSERT INTO ends VALUES {rows} ON CONFLICT (topic, partition) DO UPDATE SET position = excluded.position"
)
SET_CONSUMED = (
    "INSERT INTO consumed VALUES {rows} "
    "ON CONFLICT (consumer, topic, partition) DO UPDATE SET position = excluded.position"
)
SET_SNAPSHOT = (
    "INSERT INTO snapshots VALUES {rows} "
    "ON CONFLICT (owner, partition, subject) "
    "DO UPDATE SET position = excluded.position, state = excluded.state"
)
SET_SNAPSHOT_POSITION = (
    "INSERT INTO snapshot_positions VALUES {rows} "
    "ON CONFLICT (owner, partition) DO UPDATE SET position = excluded.position"
)
DROP_SNAPSHOT = "DELETE FROM snapshots WHERE (owner, partition, subject) IN (SELECT * FROM (VALUES {rows}))"
INSERT: dict[Topic, str] = {topic: f"INSERT INTO {topic} VALUES {{rows}}" for topic in TOPICS}

_COLUMNS = "key, id, type, subject, rest"
READ: dict[Topic, str] = {
    topic: f"SELECT {_COLUMNS} FROM {topic} WHERE key > ? AND key <= ? ORDER BY key LIMIT ?"
    for topic in TOPICS
}
READ_SUBJECT: dict[Topic, str] = {
    topic: f"SELECT {_COLUMNS} FROM {topic} WHERE subject = ? AND key > ? AND key <= ? ORDER BY key LIMIT ?"
    for topic in TOPICS
}
CONSUMED = "SELECT position FROM consumed WHERE consumer = ? AND topic = ? AND partition = ?"
SNAPSHOT_POSITION = "SELECT position FROM snapshot_positions WHERE owner = ? AND partition = ?"
SNAPSHOTS = "SELECT subject, position, state FROM snapshots WHERE owner = ? AND partition = ?"


@lru_cache(maxsize=1024)
def find_many(topic: Topic, count: int) -> str:
    """Its parameters: `count` ids, and two keys that bound the searched rows (the second inclusive)."""
    ids = ",".join("?" * count)
    return f"SELECT {_COLUMNS} FROM {topic} WHERE id IN ({ids}) AND key > ? AND key <= ? ORDER BY key"
