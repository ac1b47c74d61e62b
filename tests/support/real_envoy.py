"""The real Envoy of the environment, for tests that need one."""

import os
from pathlib import Path

import pytest

from signalbox.envoy.supervisor import EnvoyMissing, find_binary


def real_envoy() -> Path:
    """The binary. Skips the test if there is none; with SIGNALBOX_REQUIRE_REAL=1 that is a failure."""
    try:
        return find_binary()
    except EnvoyMissing as missing:
        if os.environ.get("SIGNALBOX_REQUIRE_REAL") == "1":
            raise
        pytest.skip(str(missing))
