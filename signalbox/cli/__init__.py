"""The command line: a client of the HTTP API, and what starts and examines a local Signalbox."""

from signalbox.cli.root import main

__all__ = ["main"]
