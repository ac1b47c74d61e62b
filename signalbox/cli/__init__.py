"""The command line: a client of the HTTP API, and commands that start and examine a local Signalbox."""

from signalbox.cli.root import main

__all__ = ["main"]
