"""The prober: proves that a gateway serves a deployment, by requests through the gateway's own listener.

An acknowledgement means that a proxy accepted the configuration; its workers apply it a moment later.
So every target is requested until the answer is 204 with `x-signalbox-deployment: <id>` on the route
that requires the probe secret.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from gateways.config_resource import DeploymentRef
from schemas.identity import timestamp
from signalbox.envoy.probe_connection import ProbeConnection, ProbeFailed

logger = logging.getLogger("signalbox.envoy.prober")


@dataclass(frozen=True, slots=True)
class Target:
    """A deployment that should be serving. `host` may be `*` or begin with `*.`.

    `position` is that of the event that started it.
    """

    deployment: str
    api: str
    revision: int
    context: str
    host: str = "*"
    position: int = 0

    @classmethod
    def of(cls, ref: DeploymentRef, position: int) -> "Target":
        return cls(ref.deployment, ref.api, ref.revision, ref.context, ref.host, position)


OnServing = Callable[[Target, str, str, str], None]
"""Called with the target, gateway, node and the time (RFC 3339)."""
OnGivenUp = Callable[[Target, str], None]
"""Called with the target and the last reason."""


@dataclass(frozen=True, slots=True)
class Listener:
    """The address where a gateway's node listens, and the secret of its probe routes."""

    gateway: str
    node: str
    address: str
    port: int
    secret: str = field(repr=False)


@dataclass(slots=True, eq=False)
class _Pending:
    target: Target
    give_up_at: float
    delay: float
    timer: asyncio.TimerHandle | None = None
    dropped: bool = False


class Prober:
    """Probes one listener over at most `connections` kept-alive connections.

    `submit` and `forget` are cheap and may be called whether or not `run` runs. Times in seconds.
    A target is requested again after `first_delay`, doubling up to `longest_delay`, until `give_up_after`.
    """

    def __init__(
        self,
        listener: Listener,
        on_serving: OnServing,
        *,
        on_given_up: OnGivenUp | None = None,
        connections: int = 8,
        capacity: int = 100_000,
        give_up_after: float = 30.0,
        first_delay: float = 0.005,
        longest_delay: float = 1.0,
        answer_within: float = 2.0,
    ) -> None:
        self._listener = listener
        self._on_serving = on_serving
        self._on_given_up = on_given_up
        self._connections = connections
        self._capacity = capacity
        self._give_up_after = give_up_after
        self._first_delay = first_delay
        self._longest_delay = longest_delay
        self._answer_within = answer_within
        self._pending: dict[str, _Pending] = {}
        self._due: asyncio.Queue[_Pending] = asyncio.Queue()
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        """The number of targets that are not proved yet."""
        return len(self._pending)

    def submit(self, target: Target) -> bool:
        """Probes `target` from now on, in place of an older one of the same deployment.

        False when there are already as many as `capacity`: it is given up at once.
        """
        self.forget(target.deployment)
        if len(self._pending) >= self._capacity:
            self._give_up(target, f"{self._capacity} other deployments are waiting to be probed")
            return False
        now = asyncio.get_running_loop().time()
        pending = _Pending(target, now + self._give_up_after, self._first_delay)
        self._pending[target.deployment] = pending
        self._due.put_nowait(pending)
        return True

    def forget(self, deployment: str) -> None:
        """Stops probing a deployment, because it was superseded or stopped."""
        pending = self._pending.pop(deployment, None)
        if pending is not None:
            pending.dropped = True
            if pending.timer is not None:
                pending.timer.cancel()

    async def run(self) -> None:
        """Probes until cancelled or closed."""
        if self._closed:
            return
        self._running = asyncio.current_task()
        async with asyncio.TaskGroup() as group:
            for number in range(self._connections):
                group.create_task(self._work(), name=f"prober {number} of {self._listener.gateway}")

    async def close(self) -> None:
        """Ends `run`, its connections and all pending probes, for good."""
        self._closed = True
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        for deployment in list(self._pending):
            self.forget(deployment)

    async def _work(self) -> None:
        connection = ProbeConnection(self._listener.address, self._listener.port, self._answer_within)
        loop = asyncio.get_running_loop()
        unreachable = self._first_delay
        try:
            while True:
                pending = await self._due.get()
                pending.timer = None
                if pending.dropped:
                    continue
                try:
                    answer = await connection.ask(self._request(pending.target))
                except ProbeFailed as failure:
                    # The gateway does not answer at all: the worker pauses for all its targets.
                    self._again(pending, loop, str(failure))
                    await asyncio.sleep(unreachable)
                    unreachable = min(unreachable * 2, self._longest_delay)
                    continue
                unreachable = self._first_delay
                if pending.dropped:
                    continue
                if answer.status == 204 and answer.deployment == pending.target.deployment:
                    del self._pending[pending.target.deployment]
                    listener = self._listener
                    self._on_serving(pending.target, listener.gateway, listener.node, timestamp())
                else:
                    by = f" by deployment {answer.deployment}" if answer.deployment else ""
                    self._again(pending, loop, f"answered with {answer.status}{by}")
        finally:
            connection.close()

    def _again(self, pending: _Pending, loop: asyncio.AbstractEventLoop, reason: str) -> None:
        if pending.dropped:
            return
        if loop.time() >= pending.give_up_at:
            del self._pending[pending.target.deployment]
            pending.dropped = True
            self._give_up(pending.target, reason)
            return
        pending.timer = loop.call_later(pending.delay, self._due.put_nowait, pending)
        pending.delay = min(pending.delay * 2, self._longest_delay)

    def _give_up(self, target: Target, reason: str) -> None:
        logger.warning(
            "deployment %s of %s is not proved to serve on %s: %s",
            target.deployment,
            target.api,
            self._listener.gateway,
            reason,
        )
        if self._on_given_up is not None:
            self._on_given_up(target, reason)

    def _request(self, target: Target) -> bytes:
        host = "probe" + target.host[1:] if target.host.startswith("*") else target.host
        return (
            f"GET {target.context} HTTP/1.1\r\nhost: {host}\r\n"
            f"x-signalbox-probe: {self._listener.secret}\r\n\r\n"
        ).encode("ascii")
