"""The lists of read models."""

from projections.deliveries import Deliveries
from projections.liveness import LivenessOfGateways
from projections.operations import Operations
from projections.readmodel import ReadModel
from projections.resources import Resources
from projections.rollouts import Rollouts
from projections.windows import Windows

READ_MODELS: tuple[ReadModel, ...] = (Resources(), Operations(), Deliveries())
"""What every Signalbox keeps."""

DERIVED: tuple[ReadModel, ...] = (Windows(), Rollouts(), LivenessOfGateways())
"""What is kept besides where Faust carries the derived streams."""
