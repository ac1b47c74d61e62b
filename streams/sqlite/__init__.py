"""The embedded engine: log, configuration and documents in SQLite files of one data directory."""

from streams.sqlite.lock import DirectoryInUse, DirectoryLock
from streams.sqlite.log import PartitionCountChanged, SqliteLog

__all__ = ["DirectoryInUse", "DirectoryLock", "PartitionCountChanged", "SqliteLog"]
