"""Outcomes as they are stored on Kafka, of this client's version and of later ones."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx
import orjson
from aiokafka import ConsumerRecord
from fastavro.read import SchemaResolutionError
from fastavro.schema import SchemaParseException
from pydantic import ValidationError

from schemas.codecs.avro import URN, NeverPublished, decode, decode_data, is_of
from schemas.codecs.binary import Undecodable
from schemas.codecs.compatibility import Schema
from schemas.outcome import Outcome

FETCH_SECONDS = 30.0


class Unreadable(Exception):
    """An outcome cannot be read by this client; the message names the remedy."""


class OutcomeDecoder:
    """Schemas that this client does not have are fetched once each from the Signalbox at `url`."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._fetched: dict[str, Schema] = {}

    async def outcome(self, message: ConsumerRecord) -> Outcome:
        """Raises Unreadable."""
        headers, value = _texts(message), message.value or b""
        uri = headers.get("ce_dataschema", "")
        try:
            if headers.get("content-type") != "application/avro":
                return Outcome.of(_json(value))
            if not is_of(uri, Outcome.type()):
                raise Unreadable(f"its outcome cannot be read: {uri!r} is no schema of outcomes")
            try:
                data = decode_data(uri, value)
            except NeverPublished as unknown:
                return decode(Outcome, value, await self._schema(uri, str(unknown)))
            return Outcome.of(data)
        except (ValidationError, Undecodable, orjson.JSONDecodeError) as error:
            raise Unreadable(f"its outcome cannot be read: {error}") from error
        except (SchemaParseException, SchemaResolutionError) as error:
            raise Unreadable(f"{self._url} returned no schema that fits its outcome: {error}") from error

    async def _schema(self, uri: str, reason: str) -> Schema:
        """Raises Unreadable."""
        if not self._url:
            raise Unreadable(
                f"its outcome cannot be read: {reason}; "
                "give the client the address of a Signalbox (`schemas`)"
            )
        if uri not in self._fetched:
            name, _, version = uri.removeprefix(URN).rpartition(":")
            where = f"{self._url}/schemas/{quote(name, safe='')}/{quote(version, safe='')}"
            try:
                async with httpx.AsyncClient(timeout=FETCH_SECONDS) as http:
                    answer = await http.get(where)
                self._fetched[uri] = _json(answer.raise_for_status().content)
            except (httpx.HTTPError, httpx.InvalidURL, orjson.JSONDecodeError) as error:
                raise Unreadable(f"the schema of its outcome was not found at {where}: {error}") from error
        return self._fetched[uri]


def _json(content: bytes) -> Any:
    return orjson.loads(content)


def cause(message: ConsumerRecord) -> str:
    """The id of the command that a message answers."""
    return _texts(message).get("ce_causationid", "")


def _texts(message: ConsumerRecord) -> Mapping[str, str]:
    return {name: value.decode(errors="replace") for name, value in message.headers}
