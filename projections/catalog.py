"""The list of read models."""

from projections.deliveries.model import Deliveries
from projections.derived.liveness import LivenessOfGateways
from projections.derived.rollouts import Rollouts
from projections.derived.windows import Windows
from projections.operations import Operations
from projections.readmodel import ReadModel
from projections.resources.model import Resources

READ_MODELS: tuple[ReadModel, ...] = (
    Resources(),
    Operations(),
    Deliveries(),
    Windows(),
    Rollouts(),
    LivenessOfGateways(),
)
