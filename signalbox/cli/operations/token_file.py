"""A new file for the token of a gateway."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from signalbox.cli.failure import USAGE, Failure


class TokenFile:
    """The file is created empty before anything is applied, readable for its owner only; an existing file
    is not changed.

    Raises Failure.
    """

    def __init__(self, file: str) -> None:
        self._name = file
        self._file = Path(file)
        self.holder = ""
        """The gateway whose token is in it."""
        try:
            os.close(os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError as error:
            raise Failure(
                f"{file} exists, and may hold a token; nothing was applied",
                "name a new file with --token-file, or leave the option out when the gateway is registered",
                USAGE,
            ) from error
        except OSError as error:
            raise Failure(
                f"cannot write {file}: {error.strerror or error}; nothing was applied", code=USAGE
            ) from error

    def take(self, item: dict[str, Any]) -> None:
        """Moves the first token of the answer into the file: `token_file` replaces `token`.

        If the file cannot be written, or has another token already, the token stays in the answer.
        """
        if not item.get("token") or self.holder:
            return
        try:
            with self._file.open("w") as writing:
                writing.write(f"{item['token']}\n")
                writing.flush()
                os.fsync(writing.fileno())
        except OSError:
            return
        self.holder = str(item["name"])
        del item["token"]
        item["token_file"] = self._name

    def close(self) -> str:
        """Removes the file when there was no token for it, and returns a message; else an empty one."""
        if self.holder:
            return ""
        self._file.unlink(missing_ok=True)
        return (
            f"no token was written to {self._name}: a gateway's token is printed only when it is registered"
        )


def token_line(item: Mapping[str, Any]) -> str:
    """The line about the token of a newly registered gateway; empty for other items."""
    if file := item.get("token_file"):
        return f"token      {item['name']}: in {file} (its nodes connect with it; it is not shown again)"
    if token := item.get("token"):
        return f"token      {item['name']}: {token} (its nodes connect with it; it is not shown again)"
    return ""
