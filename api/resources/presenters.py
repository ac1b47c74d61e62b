"""The one list of presenters. An aggregate without one is read and changed by its fields alone."""

from collections.abc import Mapping
from types import MappingProxyType

from api.resources import apis, deployments, gateways
from api.resources.presenter import Presenter

PRESENTERS: Mapping[str, Presenter] = MappingProxyType(
    {"api": apis.PRESENTER, "gateway": gateways.PRESENTER, "deployment": deployments.PRESENTER}
)
"""By name of the aggregate."""
