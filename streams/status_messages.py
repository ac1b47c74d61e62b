"""The typed messages of the status topic."""

import logging

from pydantic import ValidationError

from schemas.status import STATUSES, Status
from streams.log import Record

_TYPES = {status.type(): status for status in STATUSES}

logger = logging.getLogger("signalbox.status")


def status_of(record: Record) -> Status | None:
    """The typed message of a record of the status topic; None when it is of an unknown type or unreadable."""
    kind = _TYPES.get(record.envelope.type)
    if record.fault is not None or kind is None:
        return None
    try:
        return kind.of(record.envelope.data)
    except ValidationError as error:
        logger.error("status/%d at %d is left out: %s", record.partition, record.position, error)
        return None
