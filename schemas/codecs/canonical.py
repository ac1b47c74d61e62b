"""Canonical JSON (sorted keys, no spaces, as RFC 8785 for the values used here) and its SHA-256."""

import hashlib
from typing import Any

import orjson


def canonical(value: Any) -> bytes:
    """`value` as canonical JSON. Raises TypeError for values that JSON does not have."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def sha256_hex(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`, hexadecimal."""
    return sha256_hex(canonical(value))
