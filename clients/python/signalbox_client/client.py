"""The client: publishes commands and awaits outcomes over either transport."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from schemas.catalog import subject_of
from schemas.envelope import Envelope
from schemas.identity import timestamp, uuid7
from schemas.message import Command
from schemas.outcome import Outcome
from signalbox_client.answers import NoAnswer, accepted
from signalbox_client.kafka_settings import KafkaSettings, from_environment
from signalbox_client.transport import Transport, Unreachable

T = TypeVar("T")

SECONDS = 30.0
_PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds between attempts while Signalbox is unreachable; the last one repeats."""


class Client:
    """Commands of one organization. Use it as `async with`, from one event loop, concurrently.

    Temporary failures (a restarting broker, a busy server) are retried, always with the command's id, so
    that it is decided once.
    """

    def __init__(self, transport: Transport, organization: str, source: str) -> None:
        """Use `kafka` or `http`."""
        self._transport = transport
        self._organization = organization
        self._source = source

    @classmethod
    def kafka(
        cls,
        kafka: str | KafkaSettings,
        *,
        token: str,
        organization: str,
        source: str = "/signalbox/client",
        schemas: str = "",
    ) -> "Client":
        """Over Kafka; needs the extra `kafka`.

        `kafka` is the bootstrap servers: TLS, SASL and the topics' prefix are then taken from the environment
        (`SIGNALBOX_KAFKA_*`), and ValueError is raised for variables that do not go together. Or it is
        settings, and the environment is not read. `token` is printed by `signalbox token create`. `schemas`
        is the HTTP address of a Signalbox: outcomes of a version that this client does not know yet are then
        read too.
        """
        from signalbox_client.kafka import KafkaTransport

        settings = from_environment(kafka) if isinstance(kafka, str) else kafka
        return cls(KafkaTransport(settings, token, organization, schemas), organization, source)

    @classmethod
    def http(cls, url: str, *, token: str, organization: str, source: str = "/signalbox/client") -> "Client":
        """Over HTTP; needs the extra `http`. `token` is a token of the API.

        Raises ValueError for a URL that is not an HTTP address.
        """
        from signalbox_client.http import HttpTransport

        return cls(HttpTransport(url, token, organization), organization, source)

    async def __aenter__(self) -> "Client":
        """Raises ConnectionError when Signalbox cannot be reached."""
        try:
            await self._transport.start()
        except Unreachable as error:
            await self._transport.close()
            raise ConnectionError(str(error)) from error
        except BaseException:
            await self._transport.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.close()

    async def execute(self, command: Command, *, id: str | None = None, seconds: float = SECONDS) -> Outcome:
        """Publishes a command and returns the outcome of its acceptance.

        Raises Rejected, NoAnswer (then send it again with the error's `id`), MessageTooLarge; ValueError
        for a command of another organization.
        """
        envelope = self._envelope(command, id or uuid7())
        deadline = asyncio.get_running_loop().time() + seconds
        outcome = await self._retrying(
            envelope.id, deadline, lambda left: self._transport.send(envelope, left, again=id is not None)
        )
        if outcome is None:
            outcome = await self._retrying(
                envelope.id, deadline, lambda left: self._transport.answer(envelope.id, left)
            )
        if outcome is None:
            raise NoAnswer(envelope.id, f"not decided within {seconds:g} s")
        return accepted(outcome)

    async def publish(self, command: Command, *, id: str | None = None, seconds: float = SECONDS) -> str:
        """Publishes a command and returns its id as soon as it is durable. `outcome` returns its outcome.

        Raises NoAnswer, MessageTooLarge, Rejected when it is refused before it is durable; ValueError for a
        command of another organization.
        """
        envelope = self._envelope(command, id or uuid7())
        deadline = asyncio.get_running_loop().time() + seconds
        await self._retrying(
            envelope.id, deadline, lambda _: self._transport.send(envelope, 0.0, again=id is not None)
        )
        return envelope.id

    async def outcome(self, id: str, *, seconds: float = SECONDS) -> Outcome:
        """The outcome of a command that was published, by any sender. Raises Rejected, NoAnswer."""
        deadline = asyncio.get_running_loop().time() + seconds
        outcome = await self._retrying(id, deadline, lambda left: self._transport.answer(id, left))
        if outcome is None:
            raise NoAnswer(id, f"not decided within {seconds:g} s")
        return accepted(outcome)

    def _envelope(self, command: Command, id: str) -> Envelope:
        if command.organization != self._organization:
            raise ValueError(
                f"this client is for the organization {self._organization!r}, "
                f"the command for {command.organization!r}"
            )
        return Envelope(
            id=id,
            type=command.type(),
            source=self._source,
            subject=subject_of(command, id),
            time=timestamp(),
            partitionkey=command.organization,
            data=command.data(),
            correlationid=id,
        )

    async def _retrying(self, id: str, deadline: float, attempt: Callable[[float], Awaitable[T]]) -> T:
        """Calls `attempt` with the seconds that are left, again while Signalbox is unreachable."""
        loop = asyncio.get_running_loop()
        pauses = iter(_PAUSES)
        while True:
            try:
                async with asyncio.timeout_at(deadline + _GRACE):
                    return await attempt(max(0.0, deadline - loop.time()))
            except Unreachable as error:
                pause = next(pauses, _PAUSES[-1])
                if loop.time() + pause >= deadline:
                    raise NoAnswer(id, str(error)) from error
                await asyncio.sleep(pause)
            except TimeoutError as error:
                raise NoAnswer(id, "Signalbox did not answer in time") from error


_GRACE = 1.0
"""Seconds that an answer in flight may take after the deadline."""
