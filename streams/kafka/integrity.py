"""Which messages on Kafka Signalbox itself has written: a keyed MAC in a header of each.

Whoever may write to a topic can write a message that looks like ours. Roles share a key (`integrity.key` in
the secrets directory); what has no MAC of it counts for nothing. Messages that stood there when the key was
made were written by an earlier version, without MACs: up to where each topic ended then, a message without
one is taken.
"""

import hmac
import logging
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

HEADER = "mac"
PROTECTED = ("config", "outcomes")
"""Topics whose messages carry a MAC."""

KEY_BYTES = 32
MAC_BYTES = 16
LOG_SECONDS = 10.0
"""Refused messages of one topic are logged at most once in so many seconds."""

Headers = Iterable[tuple[str, bytes]]

logger = logging.getLogger("signalbox.integrity")


class Integrity:
    """Makes MACs and checks them; counts what it refused in `refused`, by topic."""

    def __init__(
        self,
        key: bytes,
        unsigned: Mapping[str, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`key` has `KEY_BYTES`. `unsigned` is by `topic/partition` the offset up to which messages need no
        MAC."""
        self._key = key
        self._unsigned = dict(unsigned or {})
        self._clock = clock
        self._logged: dict[str, float] = {}
        self._last: dict[tuple[str, int], int] = {}
        self.refused: Counter[str] = Counter()

    def mac(self, topic: str, partition: int, *parts: bytes) -> bytes:
        """The MAC of a message on a partition, over `parts`: their order and borders count.

        In hexadecimal digits, since clients take headers for text.
        """
        sizes = struct.pack(f">{len(parts) + 1}Q", partition, *map(len, parts))
        text = b"".join([topic.encode(), b"\0", sizes, *parts])
        return hmac.digest(self._key, text, "sha256")[:MAC_BYTES].hex().encode()

    def genuine(self, topic: str, partition: int, offset: int, mac: bytes | None, *parts: bytes) -> bool:
        """Whether we wrote the message at `offset`."""
        if mac is None:
            return offset < self._unsigned.get(f"{topic}/{partition}", 0)
        return hmac.compare_digest(mac, self.mac(topic, partition, *parts))

    def sealed(self, topic: str, partition: int, value: bytes, headers: Headers) -> list[tuple[str, bytes]]:
        """`headers` with the MAC over them and `value`, which the message may have at any offset."""
        mac = self.mac(topic, partition, value, *_flat(headers))
        return [*headers, (HEADER, mac)]

    def genuine_sealed(
        self, topic: str, partition: int, offset: int, value: bytes | None, headers: Headers
    ) -> bool:
        """Whether a message is one that was `sealed`."""
        given = list(headers)
        mac = given.pop()[1] if given and given[-1][0] == HEADER else None
        return self.genuine(topic, partition, offset, mac, value or b"", *_flat(given))

    def refuse(self, topic: str, partition: int, offset: int) -> None:
        """Counts a message that is not genuine, and has the log tell of it."""
        if offset <= self._last.get((topic, partition), -1):
            return  # it is read again
        self._last[topic, partition] = offset
        self.refused[topic] += 1
        now = self._clock()
        if now - self._logged.get(topic, -LOG_SECONDS) >= LOG_SECONDS:
            self._logged[topic] = now
            logger.error(
                "%s/%d holds at offset %d a message that Signalbox did not write, or not with this key; it "
                "is left out (%d so far). Who may write to the topic, and is %s the same everywhere?",
                *(topic, partition, offset, self.refused[topic], "SIGNALBOX_SECRETS"),
            )


def _flat(headers: Headers) -> list[bytes]:
    return [part for name, content in headers for part in (name.encode(), content or b"")]
