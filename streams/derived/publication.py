"""Publishes status messages that are derived from the read models."""

import logging
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from projections.failures import ReadModelsUnavailable
from projections.queries import ReadModels
from projections.read_transactions import NotReady
from schemas.envelope import QualifiedName
from schemas.envelopes import envelope_for
from schemas.identity import unix_seconds
from schemas.status import Status
from streams.log import Log
from streams.projection.store_thread import store_or_log_unavailable
from streams.retry import Retry

V = TypeVar("V")


class StatusPublisher(Generic[V]):
    """Publishes values of gateways or deployments that differ from the last published ones. The common part
    of such `ProjectionListener`s; belongs to one event loop."""

    def __init__(self, log: Log, read_models: ReadModels, source: str, *, heartbeats: bool = True) -> None:
        """Without `heartbeats` a node is live while it is connected."""
        self._log = log
        self._read_models = read_models
        self._source = source
        self._heartbeats = heartbeats
        self._latest: dict[int, float] = {}  # when the last consumed status was reported
        self._published: dict[QualifiedName, V] = {}  # not consumed from the topic yet

    def _forget(self) -> None:
        """Resets the state when other partitions are assigned."""
        self._published.clear()
        self._latest.clear()

    async def _publish_new(
        self,
        new: Mapping[QualifiedName, V],
        at: str,
        report: Callable[[QualifiedName, V], tuple[Status, str]],
    ) -> None:
        """Appends the messages (with their subjects) that `report` makes of these values.

        The values are in `_published` before the messages can be consumed, unless the log raises an error.
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
    """The retry of publications from the read models. At a first start these are missing, as expected."""
    return Retry(subject, logger, retryable=_retryable, expected=lambda error: isinstance(error, NotReady))


def _retryable(error: Exception) -> bool:
    return isinstance(error, NotReady | ReadModelsUnavailable) or store_or_log_unavailable(error)


def seconds_of(time: str) -> float:
    """Unix seconds of an RFC 3339 time; 0 when it is none."""
    try:
        return unix_seconds(time)
    except ValueError:
        return 0.0
