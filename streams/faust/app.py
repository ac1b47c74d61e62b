"""The Faust app that follows events, outcomes and status in one consumer group."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from streams.faust.chunks import Chunk, TopicPartition
from streams.faust.transport import Bookkeeping, Transport, Untouched
from streams.kafka.settings import KafkaSettings
from streams.log import Topic

# Faust's annotations are unfinished, mode's too.
_FAUST: Mapping[str, Any] = vars(import_module("faust.app"))
_CRASHING: Any = vars(import_module("mode.supervisors"))["CrashingSupervisor"]
_URL: Any = vars(import_module("yarl"))["URL"]

GROUP = "projector"
WITHIN_SECONDS = 0.05
REQUEST_SECONDS = 30.0

Take = Callable[[TopicPartition, Chunk], None]
"""Takes messages of one fetch. Never raises; `Bookkeeping.durable` limits how many are in flight."""
PartitionsCallback = Callable[[frozenset[TopicPartition]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class RebalanceCallbacks:
    """Called with the partitions that are assigned, and with those that are revoked, which another process
    may get once `revoked` returns."""

    assigned: PartitionsCallback
    revoked: PartitionsCallback


class Service(Protocol):
    """The used part of a Faust app (a mode Service)."""

    @property
    def crashed(self) -> bool: ...
    @property
    def crash_reason(self) -> BaseException | None: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


def build_app(
    settings: KafkaSettings,
    books: Bookkeeping,
    topics: Sequence[Topic],
    take: Take,
    moved: RebalanceCallbacks,
) -> Service:
    """An app that hands all messages of `topics` to `take`, in batches.

    It creates no topics, opens no port and handles no signals. It is used once: after a stop or a crash
    another app is built.
    """
    servers = ";".join(f"kafka://{server.strip()}" for server in settings.bootstrap.split(","))
    session = settings.session_timeout_ms / 1000
    app: Any = _FAUST["App"](
        settings.group(GROUP),
        broker=servers,
        store="memory://",
        web_enabled=False,
        autodiscover=False,
        processing_guarantee="at_least_once",
        agent_supervisor=_CRASHING,
        topic_allow_declare=False,
        topic_disable_leader=True,
        reply_create_topic=False,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        stream_buffer_maxsize=4096,  # never full: the consumer holds partitions back
        broker_commit_interval=1.0,
        broker_session_timeout=session,
        broker_heartbeat_interval=session / 4,
        broker_rebalance_timeout=session,
        broker_request_timeout=max(REQUEST_SECONDS, session),
        broker_max_poll_interval=600.0,
    )
    transport = Transport([_URL(server) for server in servers.split(";")], app)
    transport.books = books
    app.transport = transport
    app.producer_transport = transport

    app.on_partitions_assigned.connect(_signal_handler(moved.assigned))
    app.on_partitions_revoked.connect(_signal_handler(moved.revoked))
    for topic in topics:
        _agent(app, settings.topic(topic), take)
    return app


def _signal_handler(callback: PartitionsCallback) -> Any:
    async def handle(app: Any, partitions: Any, **more: Any) -> None:
        await callback(frozenset(TopicPartition(*partition) for partition in partitions))

    return handle


def _agent(app: Any, topic: str, take: Take) -> None:
    async def follow(stream: Any) -> None:
        async for events in stream.noack_take(1, within=WITHIN_SECONDS):
            for event in events:
                take(TopicPartition(topic, event.message.partition), event.value)

    channel = app.topic(topic, schema=Untouched(), acks=False)
    app.agent(channel, name=f"follow-{topic}")(follow)
