"""The key of `streams.kafka.security.integrity` in its file, which only its owner can read."""

import base64
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import orjson
from aiokafka import TopicPartition

from streams.kafka.fetcher import Fetcher
from streams.kafka.security.integrity import KEY_BYTES, PROTECTED, Integrity
from streams.kafka.settings import KafkaSettings
from streams.whole_file import write_whole


class IntegrityKeyError(Exception):
    """A key file cannot be used; the sentence has its name and the reason."""


async def open_integrity(file: Path, settings: KafkaSettings, fetching: Fetcher) -> Integrity:
    """The integrity with the key in `file`. A missing key is created, for messages after the current high
    watermarks of the topics: a transaction becomes visible a moment after its commit was confirmed.

    Raises LogUnavailable, IntegrityKeyError.
    """
    known = read_integrity(file)
    if known is not None:
        return known
    places = [TopicPartition(settings.topic(t), p) for t in PROTECTED for p in range(settings.partitions)]
    ends = {f"{place.topic}/{place.partition}": await fetching.high_watermark(place) for place in places}
    return make_integrity(file, ends)


def read_integrity(file: Path) -> Integrity | None:
    """None when there is no file. Raises IntegrityKeyError."""
    try:
        content: object = orjson.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise IntegrityKeyError(f"{file} cannot be read: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise IntegrityKeyError(f"{file} is not JSON: {error}") from error
    document = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    try:
        key = base64.b64decode(document["key"], validate=True)
        unsigned = {str(place): int(offset) for place, offset in document["unsigned"].items()}
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise IntegrityKeyError(f"{file} is not a key of Signalbox: restore it from a backup") from error
    if len(key) != KEY_BYTES:
        raise IntegrityKeyError(f"{file} has a key of {len(key)} bytes; it must have {KEY_BYTES}")
    return Integrity(key, unsigned)


def make_integrity(file: Path, unsigned: Mapping[str, int]) -> Integrity:
    """Creates the key; of two processes that start together, the first one's is used.

    Raises IntegrityKeyError.
    """
    document = {
        "key": base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode(),
        "unsigned": {place: offset for place, offset in sorted(unsigned.items()) if offset},
    }
    content = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(file, content, replace=False, durable=True)
    except OSError as error:
        raise IntegrityKeyError(f"{file} cannot be written: {error.strerror}") from error
    made = read_integrity(file)
    assert made is not None
    return made
