"""Publication on the status topic of what follows from the read models."""

import logging
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from projections.failures import ReadModelsUnavailable
from projections.queries import ReadModels
from projections.read_transactions import NotReady
from schemas.envelopes import envelope_for
from schemas.identity import unix_seconds
from schemas.status import Status
from streams.log import Log
from streams.projection.store_thread import store_or_log_unavailable
from streams.retry import Retry

Key = tuple[str, str]
"""Organization and name."""
V = TypeVar("V")


class StatusPublisher(Generic[V]):
    """Publishes values of gateways or deployments that differ from the last published ones. The part that
    all `ProjectionListener`s of this kind share; belongs to one event loop."""

    def __init__(self, log: Log, read_models: ReadModels, source: str, *, heartbeats: bool = True) -> None:
        """Without `heartbeats` a node is there for as long as it is connected."""
        self._log = log
        self._read_models = read_models
        self._source = source
        self._heartbeats = heartbeats
        self._latest: dict[int, float] = {}  # when the last consumed status was reported
        self._published: dict[Key, V] = {}  # not consumed again yet

    def _forget(self) -> None:
        """Other partitions are consumed from now on."""
        self._published.clear()
        self._latest.clear()

    async def _publish_new(
        self, new: Mapping[Key, V], at: str, report: Callable[[Key, V], tuple[Status, str]]
    ) -> None:
        """Appends the messages (with their subjects) that `report` makes of these values.

        They are in `_published` before they can be consumed, unless this raises what the log does.
        """
        if not new:
            return
        envelopes = [
            envelope_for(message, source=self._source, subject=subject, time=at)
            for message, subject in (report(key, value) for key, value in new.items())
        ]
        self._published.update(new)
        try:
            await self._log.append("status", envelopes)
        except BaseException:
            for key in new:
                self._published.pop(key, None)
            raise


def publication_retry(subject: str, logger: logging.Logger) -> Retry:
    """For publications that read the read models. At a first start there are none yet, which is expected."""
    return Retry(subject, logger, retryable=_retryable, expected=lambda error: isinstance(error, NotReady))


def _retryable(error: Exception) -> bool:
    return isinstance(error, NotReady | ReadModelsUnavailable) or store_or_log_unavailable(error)


def seconds_of(time: str) -> float:
    """Unix seconds of an RFC 3339 time; 0 when it is none."""
    try:
        return unix_seconds(time)
    except ValueError:
        return 0.0
