"""Which upstream addresses a gateway may reach."""

import pytest

from gateways.upstream_access import NetworkPort, network_port, own_network_ports, upstream_access

ALWAYS_DENIED = [
    "0.0.0.0",
    "0.1.2.3",
    "::",
    "169.254.169.254",
    "fe80::1",
    "fd00:ec2::254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "224.0.0.1",
    "255.255.255.255",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::169.254.169.254",
]


@pytest.mark.parametrize("environment", ["development", "production"])
@pytest.mark.parametrize("address", ALWAYS_DENIED)
def test_addresses_that_no_gateway_reaches_by_default(address: str, environment: str) -> None:
    problem = upstream_access(environment).problem(address, 80)

    assert problem is not None
    assert address in problem
    assert "allowedUpstreams" in problem


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.1", "::1"])
def test_loopback_is_for_development(address: str) -> None:
    assert upstream_access("development").problem(address, 80) is None
    assert upstream_access("production").problem(address, 80) is not None


@pytest.mark.parametrize("address", ["10.1.2.3", "192.168.0.1", "93.184.216.34", "fd12::1", "2001:db8::1"])
def test_other_addresses_are_reached(address: str) -> None:
    assert upstream_access("production").problem(address, 80) is None


def test_a_host_name_is_known_when_it_is_resolved() -> None:
    assert upstream_access("production").problem("localhost", 80) is None


def test_a_gateway_allows_upstreams_that_are_denied_by_default() -> None:
    access = upstream_access("production", ["127.0.0.0/8", "169.254.7.0/24"])

    assert access.problem("127.0.0.1", 80) is None
    assert access.problem("169.254.7.1", 80) is None
    assert access.problem("169.254.169.254", 80) is not None


def test_signalboxs_own_ports_are_closed_even_if_a_gateway_allows_them() -> None:
    access = upstream_access("development", ["0.0.0.0/0", "::/0"], own_network_ports("0.0.0.0", 18000))

    for address in ("127.0.0.1", "127.0.0.2", "::1", "0.0.0.0", "::ffff:127.0.0.1"):
        problem = access.problem(address, 18000)
        assert problem is not None
        assert "Signalbox itself" in problem
        assert access.problem(address, 18001) is None


def test_a_server_at_one_address_is_closed_there_alone() -> None:
    access = upstream_access("production", closed=own_network_ports("10.0.0.5", 8080))

    assert access.problem("10.0.0.5", 8080) is not None
    assert access.problem("10.0.0.6", 8080) is None
    assert own_network_ports("control.internal", 8080) == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.5", NetworkPort("10.0.0.5/32")),
        ("10.0.0.0/8", NetworkPort("10.0.0.0/8")),
        ("10.0.0.5:8080", NetworkPort("10.0.0.5/32", 8080)),
        ("10.0.0.0/8:22", NetworkPort("10.0.0.0/8", 22)),
        ("fd00::1", NetworkPort("fd00::1/128")),
        ("[fd00::/8]:22", NetworkPort("fd00::/8", 22)),
    ],
)
def test_a_place_is_a_network_or_one_of_its_ports(text: str, expected: NetworkPort) -> None:
    assert network_port(text) == expected
    assert network_port(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["", "host", "10.0.0.1/8", "10.0.0.5:0", "10.0.0.5:x", "[fd00::1]:", "300.0.0.1"]
)
def test_invalid_networks_are_reported(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        network_port(text)
