"""The number of examples of each property test (law): all in `make test`, a tenth in `make check`."""

import os

from hypothesis import HealthCheck, settings

QUICK = os.environ.get("SIGNALBOX_QUICK_LAWS") == "1"
SLOW = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large)
SHARED_FIXTURE = (HealthCheck.function_scoped_fixture,)
"""For a law whose fixture is not changed by its examples."""

USUAL, FEWEST = 100, 5

settings.register_profile("full", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=USUAL // 10, database=None)
settings.load_profile("quick" if QUICK else "full")


def examples(count: int, suppressed: tuple[HealthCheck, ...] = ()) -> settings:
    """The settings of a law that is tried on `count` examples; no example has a time limit."""
    tried = max(count // 10, FEWEST) if QUICK else count
    return settings(max_examples=min(tried, count), suppress_health_check=suppressed)
