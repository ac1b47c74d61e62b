"""Detects journals of which SQLite would silently drop committed transactions.

At recovery SQLite reads a write-ahead log up to the first frame with a wrong checksum and silently drops
the rest: after a power failure this is a transaction that was not acknowledged. But with `synchronous=FULL`
each transaction is on disk before the next one begins. So a transaction with frames after it was
acknowledged, and must not be dropped. Format: https://www.sqlite.org/fileformat2.html#walformat
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_HEADER = 32
_FRAME_HEADER = 24
_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}
_MASK = 0xFFFFFFFF

Checksum = tuple[int, int]


def journal_fault(journal: Path) -> str | None:
    """Why acknowledged transactions in this journal would be lost; None when none would be.

    Damage to the very last transaction cannot be distinguished from an interrupted write.
    Raises OSError.
    """
    try:
        with journal.open("rb") as file:
            return _fault(file)
    except FileNotFoundError:
        return None


def _fault(file: BinaryIO) -> str | None:
    header = file.read(_HEADER)
    if len(header) < _HEADER:
        return None
    magic, _, page_size, _ = struct.unpack(">4I", header[:16])
    order = _MAGIC.get(magic)
    if order is None or _sum(order, header[:24], (0, 0)) != struct.unpack(">2I", header[24:]):
        return "the header of its journal is garbage"
    salts = header[16:24]
    checksum: Checksum = struct.unpack(">2I", header[24:])
    frames = _frames(file, page_size)
    for number, (head, page) in enumerate(frames, 1):
        checksum = _sum(order, page, _sum(order, head[:8], checksum))
        if head[8:16] != salts or checksum != struct.unpack(">2I", head[16:]):
            if _committed_before_more(head, frames, salts):
                return f"its journal is garbage at frame {number}, with acknowledged transactions after it"
            return None
    return None


def _committed_before_more(head: bytes, frames: Iterator[tuple[bytes, bytes]], salts: bytes) -> bool:
    """Whether, from the frame with this head on, a frame of this journal follows the end of a transaction."""
    committed = False
    while True:
        if head[8:16] == salts:
            if committed:
                return True
            committed = head[4:8] != b"\0\0\0\0"
        following = next(frames, None)
        if following is None:
            return False
        head = following[0]


def _frames(file: BinaryIO, page_size: int) -> Iterator[tuple[bytes, bytes]]:
    """Head and page of each whole frame."""
    while len(frame := file.read(_FRAME_HEADER + page_size)) == _FRAME_HEADER + page_size:
        yield frame[:_FRAME_HEADER], frame[_FRAME_HEADER:]


def _sum(order: str, content: bytes, start: Checksum) -> Checksum:
    words = iter(struct.unpack(f"{order}{len(content) // 4}I", content))
    s0, s1 = start
    for x0, x1 in zip(words, words, strict=True):
        s0 = (s0 + x0 + s1) & _MASK
        s1 = (s1 + x1 + s0) & _MASK
    return s0, s1
