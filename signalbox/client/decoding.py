"""Outcomes as they stand on Kafka, of this client's version and of later ones."""

import asyncio
from collections.abc import Mapping

from aiokafka import ConsumerRecord
from fastavro.read import SchemaResolutionError
from fastavro.schema import SchemaParseException
from pydantic import ValidationError

from schemas.avro import URN, decode
from schemas.binary import Undecodable
from schemas.compatibility import Schema
from schemas.outcome import Outcome
from signalbox.cli.client import Client, path
from signalbox.cli.connection import Connection
from signalbox.cli.failure import Failure
from streams.kafka import wire


class Unreadable(Exception):
    """An outcome that this client cannot read; the sentence says what it would take."""


class Decoding:
    """Reads outcomes; schemas that are not known here are fetched once each from the Signalbox at `url`."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._fetched: dict[str, Schema] = {}

    async def outcome(self, message: ConsumerRecord) -> Outcome:
        """Raises Unreadable."""
        record, _ = wire.decode(
            "outcomes", message.partition, message.offset + 1, message.value, message.headers
        )
        try:
            if record.fault is None:
                return Outcome.of(record.envelope.data)
            if record.fault.rule == "unknown-schema" and self._url and message.value is not None:
                schema = await self._schema(
                    record.envelope.dataschema or _texts(message).get("ce_dataschema", "")
                )
                return decode(Outcome, message.value, schema)
        except (ValidationError, Undecodable) as error:
            raise Unreadable(f"its outcome cannot be read: {error}") from error
        except (SchemaParseException, SchemaResolutionError) as error:
            raise Unreadable(f"{self._url} gave no schema that fits its outcome: {error}") from error
        told = "" if self._url else "; give the client the address of a Signalbox (`schemas`)"
        raise Unreadable(f"its outcome cannot be read: {record.fault.reason}{told}")

    async def _schema(self, uri: str) -> Schema:
        """Raises Unreadable."""
        if uri not in self._fetched:
            name, _, version = uri.removeprefix(URN).rpartition(":")
            client = Client(Connection(self._url, "", ""))
            try:
                answer = await asyncio.to_thread(client.page, path("schemas", name, version))
            except Failure as failure:
                raise Unreadable(
                    f"the schema of its outcome was not to be had: {failure.message}"
                ) from failure
            self._fetched[uri] = answer.body
        return self._fetched[uri]


def cause(message: ConsumerRecord) -> str:
    """The id of the command that a message answers."""
    return _texts(message).get("ce_causationid", "")


def _texts(message: ConsumerRecord) -> Mapping[str, str]:
    return {name: value.decode(errors="replace") for name, value in message.headers}
