"""The log files of the supervised Envoy: limited in size, and read for the reason of its end."""

import os
import re
import shutil
from pathlib import Path
from typing import BinaryIO

ROTATE_ABOVE = 5_000_000
"""Bytes above which the content of a log is moved to a file of its name with the suffix `.1`."""

READ_BACK = 16_384
LONGEST_REASON = 500
LINES = 3
SEVERE = re.compile(r"\[(?:critical|error)\]")
PREFIX = re.compile(r"^\[[^\]]*\]\[\d+\]\[\w+\]\[[^\]]*\] (?:\[[^\]]*\] )?")


class EnvoyLog:
    """A log file; `secrets` are removed from quotations of it."""

    def __init__(self, path: Path, secrets: tuple[str, ...] = ()) -> None:
        self.path = path
        self._secrets = tuple(s for s in secrets if s)
        self._since = 0

    def open(self) -> BinaryIO:
        """The file to append to; its earlier content is no longer part of `last_words`."""
        self.bound()
        # An Envoy that rejects its bootstrap file logs it here, with the token.
        log = os.fdopen(os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")
        os.fchmod(log.fileno(), 0o600)
        self._since = log.tell()
        return log

    def bound(self) -> None:
        """Empties the file when it is too large. Processes that append to it keep the same file."""
        if not self.path.exists() or self.path.stat().st_size <= ROTATE_ABOVE:
            return
        older = self.path.with_name(self.path.name + ".1")
        older.unlink(missing_ok=True)
        older.touch(mode=0o600)
        shutil.copyfile(self.path, older)
        os.truncate(self.path, 0)
        self._since = 0

    def mark(self) -> None:
        """Excludes the current content of the file from `last_words`."""
        self._since = self.path.stat().st_size if self.path.exists() else 0

    def last_words(self) -> str:
        """The last severe lines since `open` or `mark`, shortened, without secrets; empty when none."""
        try:
            with self.path.open("rb") as log:
                size = log.seek(0, 2)
                log.seek(max(self._since, size - READ_BACK))
                lines = log.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        severe = [PREFIX.sub("", line).strip() for line in lines if SEVERE.search(line)]
        words = "; ".join(severe[-LINES:])
        for secret in self._secrets:
            words = words.replace(secret, "[redacted]")
        return words[:LONGEST_REASON]
