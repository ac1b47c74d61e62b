"""The runner that feeds the read models from the log."""

from streams.projection.progress import UnknownReadModel, WriterConflict
from streams.projection.runner import ProjectionRunner
from streams.projection.waiters import RunnerStopped

__all__ = ["ProjectionRunner", "RunnerStopped", "UnknownReadModel", "WriterConflict"]
