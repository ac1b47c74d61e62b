"""Detects messages on Kafka that Signalbox did not write: its own carry a keyed MAC in a header.

Any client with write access to a topic can write a message that looks like Signalbox's. Roles share a key
(`integrity.key` in the secrets directory); messages without a valid MAC are ignored. Messages that existed
when the key was created are of an earlier version without MACs: up to the end of each topic at that time,
messages without a MAC are accepted.
"""

import hmac
import logging
import struct
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

HEADER = "mac"
PROTECTED = ("config", "outcomes")
"""Topics whose messages carry a MAC."""

KEY_BYTES = 32
MAC_BYTES = 16
LOG_SECONDS = 10.0
"""Seconds between log lines about ignored messages of one topic."""

Headers = Sequence[tuple[str, bytes]]

logger = logging.getLogger("signalbox.integrity")


class Integrity:
    """Creates and checks MACs; counts ignored messages in `refused`, by topic."""

    def __init__(
        self,
        key: bytes,
        unsigned: Mapping[str, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`key` has `KEY_BYTES`. `unsigned`: by `topic/partition`, the offset up to which messages need no
        MAC."""
        # Copied for each MAC: to prepare the key takes as long as to hash a message.
        self._keyed = hmac.new(key, digestmod="sha256")
        self._unsigned = dict(unsigned or {})
        self._clock = clock
        self._logged: dict[str, float] = {}
        self._last: dict[tuple[str, int], int] = {}
        self.refused: Counter[str] = Counter()

    def mac(self, topic: str, partition: int, *parts: bytes) -> bytes:
        """The MAC of a message on a partition, over `parts` with their order and boundaries.

        In hexadecimal digits, since clients treat headers as text.
        """
        sizes = _sizes(len(parts) + 1).pack(partition, *map(len, parts))
        text = b"".join([topic.encode(), b"\0", sizes, *parts])
        keyed = self._keyed.copy()
        keyed.update(text)
        return keyed.digest()[:MAC_BYTES].hex().encode()

    def genuine(self, topic: str, partition: int, offset: int, mac: bytes | None, *parts: bytes) -> bool:
        """Whether Signalbox wrote the message at `offset`."""
        if mac is None:
            return offset < self._unsigned.get(f"{topic}/{partition}", 0)
        return hmac.compare_digest(mac, self.mac(topic, partition, *parts))

    def sealed(self, topic: str, partition: int, value: bytes, headers: Headers) -> list[tuple[str, bytes]]:
        """`headers` with the MAC over them and `value`, valid at any offset."""
        mac = self.mac(topic, partition, value, *parts_of(headers))
        return [*headers, (HEADER, mac)]

    def genuine_sealed(
        self, topic: str, partition: int, offset: int, value: bytes | None, headers: Headers
    ) -> bool:
        """Whether a message is one that was `sealed`."""
        given = list(headers)
        mac = given.pop()[1] if given and given[-1][0] == HEADER else None
        return self.genuine(topic, partition, offset, mac, value or b"", *parts_of(given))

    def refuse(self, topic: str, partition: int, offset: int) -> None:
        """Counts and logs a message that is not genuine."""
        if offset <= self._last.get((topic, partition), -1):
            return  # it is read again
        self._last[topic, partition] = offset
        self.refused[topic] += 1
        now = self._clock()
        if now - self._logged.get(topic, -LOG_SECONDS) >= LOG_SECONDS:
            self._logged[topic] = now
            logger.error(
                "%s/%d has at offset %d a message that Signalbox did not write, or not with this key; it "
                "is ignored (%d so far). Check the rights on the topic, and that %s is the same everywhere.",
                *(topic, partition, offset, self.refused[topic], "SIGNALBOX_SECRETS"),
            )


def parts_of(headers: Headers) -> list[bytes]:
    """Names and contents of headers, as a MAC is over them."""
    parts: list[bytes] = []
    add = parts.append
    for name, content in headers:
        add(name.encode())
        add(content or b"")
    return parts


@lru_cache(64)
def _sizes(count: int) -> struct.Struct:
    return struct.Struct(f">{count}Q")
