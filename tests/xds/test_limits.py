"""How many connections the xDS server takes."""

import resource

import pytest

from xds.server.limits import MOST_DESCRIPTORS, Limits


@pytest.mark.parametrize(
    ("descriptors", "connections"),
    [
        (1_024, 384),
        (1, 1),
        (resource.RLIM_INFINITY, MOST_DESCRIPTORS * 3 // 8),
        (1 << 40, MOST_DESCRIPTORS * 3 // 8),
    ],
)
def test_connections_are_three_eighths_of_the_descriptors(
    descriptors: int, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def limit(_: int) -> tuple[int, int]:
        return descriptors, descriptors

    monkeypatch.setattr(resource, "getrlimit", limit)
    assert dict(Limits().options())["grpc.max_allowed_incoming_connections"] == connections
