"""Why a server cannot be had here. Every message is a sentence that says what to do."""

from pathlib import Path


class DevServerError(Exception):
    """A server cannot be started here."""


class Unavailable(DevServerError):
    """Something the server is made of cannot be had on this machine."""


class AlreadyRunning(DevServerError):
    """One runs in this directory already. `address` is where, as its clients are told; "" when unknown."""

    def __init__(self, name: str, directory: Path, address: str, variable: str) -> None:
        use = f"use it with {variable}={address}" if address else "wait until it has started"
        super().__init__(f"{name} runs in {directory} already: {use}, or stop it first")
        self.address = address


class StartFailed(DevServerError):
    """The server ended, or did not get ready in time."""
