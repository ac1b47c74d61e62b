"""The one list of read models."""

from projections.deliveries import Deliveries
from projections.operations import Operations
from projections.readmodel import ReadModel
from projections.resources import Resources

READ_MODELS: tuple[ReadModel, ...] = (Resources(), Operations(), Deliveries())
