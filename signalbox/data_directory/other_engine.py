"""Detects the event log of the other engine in a data directory, which this engine does not show."""

import sqlite3
from contextlib import closing
from pathlib import Path

from signalbox.first_start.default_resources import ENVIRONMENT, GATEWAY, ORGANIZATION, PROJECT
from signalbox.first_start.sample import NAME
from streams.sqlite.schema import LOG

_ORGANIZATION = f"organizations/{ORGANIZATION}"
KAFKA = "kafka"
"""The directory of the broker that `up --engine kafka` starts."""
FIRST_START = (
    _ORGANIZATION,
    f"{_ORGANIZATION}/projects/{PROJECT}",
    f"{_ORGANIZATION}/environments/{ENVIRONMENT}",
    f"{_ORGANIZATION}/gateways/{GATEWAY}",
    f"{_ORGANIZATION}/apis/{NAME}",
)
"""Subjects of default resources; deployments are not counted, since the deployed API is."""

COUNT = f"""
SELECT count(*) FROM events
WHERE subject NOT IN ({", ".join("?" * len(FIRST_START))}) AND subject NOT LIKE '%/deployments/%'
"""


def holds_only_kafka(directory: Path) -> bool:
    """Whether the log in `directory` is that of a Signalbox on Kafka, without an embedded one beside it."""
    return (directory / KAFKA).is_dir() and not (directory / LOG.file).is_file()


def other_engine(directory: Path, engine: str) -> str | None:
    """A sentence about the log of the other engine in `directory`, or None without one."""
    if engine == "kafka":
        return _embedded(directory)
    kafka = directory / KAFKA
    if not kafka.is_dir():
        return None
    return (
        f"{kafka} holds the log of a Signalbox on Kafka. This one, on the embedded engine, does not show "
        "it: stop it and start with `--engine kafka`, or choose another directory with `--data`."
    )


def _embedded(directory: Path) -> str | None:
    file = directory / LOG.file
    if not file.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as log:
            (events,) = log.execute(COUNT, FIRST_START).fetchone()
    except sqlite3.Error as error:
        found = f"{file} may hold the log of an embedded Signalbox and cannot be read ({error})."
    else:
        if not events:
            return None
        found = f"{file} holds the log of an embedded Signalbox, with {events} events beyond its first start."
    return (
        f"{found} This one, on Kafka, shows them only when they were moved: stop it, and use "
        f"`signalbox migrate --from {directory}` with empty topics (SIGNALBOX_KAFKA_PREFIX chooses others), "
        "or start without `--engine kafka`."
    )
