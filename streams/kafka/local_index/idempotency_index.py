"""The decided commands of a partition: the fingerprint of organization and id of each, and the position of
its outcome.

It prevents that a command is decided twice, so a writer must load all of it before it decides. It is stored
in segments beside the snapshots, and only the outcomes after the last segment are read at a start. Sixteen
bytes on disk and about a hundred in memory per decided command.
"""

from array import array
from collections.abc import Sequence
from hashlib import blake2b

from schemas.envelope import MessageKey

SEGMENT = 4096
"""The number of outcomes per segment."""
SEGMENTS = 16
"""The maximal number of segments per transaction: a megabyte, however many are pending."""
OWNER = "answered"


def fingerprint(key: MessageKey) -> int:
    """64 bits of the hash of an organization and id. The caller must compare both on a match."""
    return _bits("\0".join(key))


def _bits(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


class IdempotencyIndex:
    """A found fingerprint may be another command's: compare the outcome.

    Segments of earlier versions have fingerprints of ids alone: then an id was decided once for all
    organizations of a partition.
    """

    def __init__(self) -> None:
        self._positions: dict[int, int] = {}
        self._new: list[tuple[int, int]] = []
        self._segments = 0
        self.position = 0
        """The position up to which the outcomes are in segments."""

    def load(self, segment: bytes) -> None:
        """Loads a segment; segments must be loaded in the order of their creation."""
        values = array("Q", segment)
        half = len(values) // 2
        for found, position in zip(values[:half], values[half:], strict=True):
            self._positions.setdefault(found, position)
        self.position = max(self.position, values[-1])
        self._segments += 1

    def add(self, key: MessageKey, position: int) -> None:
        found = fingerprint(key)
        self._positions.setdefault(found, position)
        self._new.append((found, position))

    def find(self, key: MessageKey) -> list[int]:
        """The positions where the outcome of a command may be."""
        of_id = _bits(key[1])
        found = (self._positions.get(fingerprint(key)), self._positions.get(of_id))
        return [position for position in found if position is not None]

    def segments(self) -> list[tuple[str, bytes]]:
        """Number and content of the oldest `SEGMENTS` segments that are complete and not durable yet."""
        complete = min(len(self._new) // SEGMENT, SEGMENTS)
        return [
            (_number(self._segments + n), _packed(self._new[n * SEGMENT : (n + 1) * SEGMENT]))
            for n in range(complete)
        ]

    def kept(self, segments: Sequence[tuple[str, bytes]]) -> None:
        """Marks these segments as durable."""
        for number, _ in segments:
            # Concurrent transactions may both have written it.
            if number == _number(self._segments):
                self.position = self._new[SEGMENT - 1][1]
                del self._new[:SEGMENT]
                self._segments += 1

    def __len__(self) -> int:
        return len(self._positions)


def _number(segment: int) -> str:
    return f"{segment:08d}"


def _packed(outcomes: Sequence[tuple[int, int]]) -> bytes:
    values = array("Q", [found for found, _ in outcomes])
    values.extend(position for _, position in outcomes)
    return values.tobytes()
