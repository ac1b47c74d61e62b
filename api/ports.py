"""The ports that the HTTP API needs. The composition root passes them as one `Services`."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from api.authentication import Authenticator
from schemas.envelope import Envelope, MessageKey
from schemas.limits import LARGEST_COMMAND
from schemas.outcome import Outcome
from streams.compute_process import Compute, NoProcess
from streams.documents import DocumentStore
from streams.log import Log

if TYPE_CHECKING:
    # It imports the database library, which roles without a database do not need.
    from projections.queries import ReadModels


class CommandPort(Protocol):
    """Submits commands (`streams.submission.command_port`)."""

    async def submit(self, envelopes: Sequence[Envelope], /) -> None:
        """Returns when all are durable. Raises LogUnavailable; then none of them is."""
        ...

    async def execute(self, envelopes: Sequence[Envelope], seconds: float, /) -> Mapping[MessageKey, Outcome]:
        """Submits, and returns the outcomes decided within `seconds`. Raises LogUnavailable."""
        ...

    async def outcome(self, command: MessageKey, /) -> Outcome | None:
        """The outcome of a command; None when it is not decided."""
        ...

    async def pending(self, command: MessageKey, /) -> bool:
        """True when the command is on the log and not decided."""
        ...


class ReadModelRunner(Protocol):
    """Updates the read models and reports their positions (the projection runner)."""

    async def wait_for(self, read_model: str, partition: int, position: int, /) -> object:
        """Returns when the read model has reached `position`; may wait for ever."""
        ...

    async def rebuild(self, read_model: str, /) -> object:
        """Fills new tables and makes them live. Raises UnknownReadModel."""
        ...

    def positions(self) -> Mapping[str, Mapping[int, int]]:
        """The position of each read model, by partition."""
        ...


class DeadLetterPort(Protocol):
    """Applies dead-lettered events to the read models again (the projection runner)."""

    async def retry(self, read_model: str, subject: str, /) -> int:
        """Applies the parked events about a subject, up to the first that still fails; returns their number.

        Raises UnknownReadModel.
        """
        ...

    async def skip(self, read_model: str, subject: str, /) -> int:
        """Skips the first parked event about a subject; returns the number of applied events behind it.

        Raises UnknownReadModel.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Bounds. Sizes in bytes, times in seconds."""

    max_body: int = 10 * 1024 * 1024
    max_command: int = LARGEST_COMMAND
    body_seconds: float = 30.0
    max_wait: float = 60.0
    position_seconds: float = 5.0
    heartbeat_seconds: float = 15.0
    apply_documents: int = 500
    apply_seconds: float = 120.0
    apply_threads: int = 1
    source: str = "/api"


def _same(traceparent: str) -> str:
    return traceparent


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything `create_app` needs.

    `ready` returns the reason why the process is not ready, or None; `metrics` returns the Prometheus text;
    `traceparent` converts the trace context of a request (or "") to that of its commands; setting `stopping`
    ends the live streams; without `dead_letters` parked events cannot be retried; `compute` reads the
    definitions of large requests.
    """

    commands: CommandPort
    read_models: "ReadModels"
    read_model_runner: ReadModelRunner
    log: Log
    documents: DocumentStore
    authenticator: Authenticator
    ready: Callable[[], str | None]
    metrics: Callable[[], bytes]
    stopping: asyncio.Event
    dead_letters: DeadLetterPort | None = None
    settings: Settings = field(default_factory=Settings)
    traceparent: Callable[[str], str] = _same
    compute: Compute = field(default_factory=NoProcess)
