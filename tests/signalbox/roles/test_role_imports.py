"""A role loads only the libraries it uses: the others cost memory and make its start slower."""

import subprocess
import sys

import pytest

from signalbox.roles import ROLES
from tests.support.running_signalbox import ROOT

HEAVY = {"fastapi", "faust", "grpc", "sqlalchemy"}


@pytest.mark.parametrize(
    ("role", "used"),
    [
        ("decider", set[str]()),
        ("gateway-sync", set[str]()),
        ("projector", {"sqlalchemy"}),
        ("xds", {"grpc"}),
        ("envoy", {"grpc"}),
    ],
)
def test_a_role_loads_no_library_that_it_does_not_use(role: str, used: set[str]) -> None:
    script = f"""
import sys
import signalbox.roles.runner
import signalbox.roles.{ROLES[role].module}
print(sorted({HEAVY!r} & set(sys.modules)))
"""
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == f"{sorted(used)}\n"
