"""The gateway that `signalbox up` creates, and the node of it that it runs."""

from schemas.catalog import GATEWAY
from signalbox.first_start import GATEWAY as LOCAL
from signalbox.first_start import ORGANIZATION

NODE = "envoy-1"
LOCAL_GATEWAY = GATEWAY.subject(ORGANIZATION, LOCAL)
