"""Errors of starting a server. Every message is a sentence with a remedy."""

from pathlib import Path


class DevServerError(Exception):
    """A server cannot be started here."""


class Unavailable(DevServerError):
    """A program that the server needs is not available on this machine."""


class AlreadyRunning(DevServerError):
    """A server runs in this directory already. `address` is its address for clients; "" when unknown."""

    def __init__(self, name: str, directory: Path, address: str, variable: str) -> None:
        use = f"use it with {variable}={address}" if address else "wait until it has started"
        super().__init__(f"{name} runs in {directory} already: {use}, or stop it first")
        self.address = address


class StartFailed(DevServerError):
    """The server ended, or was not ready in time."""
