"""The runner that feeds the read models from the log."""

from streams.projecting.runner import ProjectionRunner
from streams.projecting.slots import SomebodyElseRuns, UnknownReadModel
from streams.projecting.waiting import RunnerStopped

__all__ = ["ProjectionRunner", "RunnerStopped", "SomebodyElseRuns", "UnknownReadModel"]
