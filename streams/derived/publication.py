"""Publication on the status topic of what follows from the read models."""

import logging
from collections.abc import Mapping, Sequence
from typing import TypeVar

from projections.failures import ReadModelsUnavailable
from projections.read_transactions import NotReady
from schemas.envelope import Envelope
from streams.log import Log
from streams.projection.store_thread import store_or_log_unavailable
from streams.retry import Retry

K = TypeVar("K")
V = TypeVar("V")


def publication_retry(subject: str, logger: logging.Logger) -> Retry:
    """For publications that read the read models. At a first start there are none yet, which is expected."""
    return Retry(subject, logger, retryable=_retryable, expected=lambda error: isinstance(error, NotReady))


def _retryable(error: Exception) -> bool:
    return isinstance(error, NotReady | ReadModelsUnavailable) or store_or_log_unavailable(error)


async def publish(log: Log, envelopes: Sequence[Envelope], published: dict[K, V], new: Mapping[K, V]) -> None:
    """Appends `envelopes`; adds the values in them, `new`, to `published` before they can be consumed.

    Raises what the log does; then `published` is without them.
    """
    published.update(new)
    try:
        await log.append("status", envelopes)
    except BaseException:
        for key in new:
            published.pop(key, None)
        raise
