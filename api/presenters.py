"""The one list of presenters. An aggregate without one is read and changed by its fields alone."""

from collections.abc import Mapping
from types import MappingProxyType

from api import of_apis, of_deployments, of_gateways
from api.presenter import Presenter

PRESENTERS: Mapping[str, Presenter] = MappingProxyType(
    {"api": of_apis.PRESENTER, "gateway": of_gateways.PRESENTER, "deployment": of_deployments.PRESENTER}
)
"""By name of the aggregate."""
