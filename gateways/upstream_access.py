"""The addresses that a gateway may send requests to. Pure; addresses are those of connections.

Denied unless a gateway allows them: loopback (outside development), link-local addresses with the cloud
metadata services, the networks of "this host", and multicast. Signalbox's own ports are always denied.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import NamedTuple

Network = IPv4Network | IPv6Network

DEVELOPMENT = "development"
"""The environment whose gateways may reach loopback."""

LOOPBACK = ("127.0.0.0/8", "::1/128")
THIS_HOST = ("0.0.0.0/8", "::/128")
"""Connections to these end at the machine itself."""
DENIED = (
    *THIS_HOST,
    "169.254.0.0/16",  # link-local: the metadata services of most clouds
    "fe80::/10",
    "fd00:ec2::/32",  # metadata, AWS
    "100.100.100.200/32",  # metadata, Alibaba
    "168.63.129.16/32",  # metadata, Azure
    "192.0.0.192/32",  # metadata, Oracle
    "224.0.0.0/4",
    "255.255.255.255/32",
    "ff00::/8",
    "::ffff:0:0/96",  # IPv4 written as IPv6 would get around the networks above
    "64:ff9b::/96",  # and so would IPv4 behind a NAT64 gateway
)


class NetworkPort(NamedTuple):
    """A network, or one port of all its addresses. `port` 0 is any."""

    network: str
    port: int = 0

    def __str__(self) -> str:
        if not self.port:
            return self.network
        return f"[{self.network}]:{self.port}" if ":" in self.network else f"{self.network}:{self.port}"


@dataclass(frozen=True, slots=True)
class UpstreamAccess:
    """`allowed` overrides `denied`; `closed` overrides both."""

    denied: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    closed: tuple[NetworkPort, ...] = ()

    def problem(self, host: str, port: int) -> str | None:
        """Why requests cannot be sent to `host`, if so. None for host names: checked once resolved."""
        try:
            address = ip_address(host)
        except ValueError:
            return None
        if any(p.port in (0, port) and address in _network(p.network) for p in self.closed):
            return f"the upstream {host}:{port} is Signalbox itself, or closed by its operator"
        if any(address in _network(n) for n in self.allowed):
            return None
        network = next((n for n in self.denied if address in _network(n)), None)
        if network is None:
            return None
        return (
            f"the upstream address {host} is in {network}, which gateways reach only when the gateway's "
            "allowedUpstreams has it"
        )


EVERYWHERE = UpstreamAccess()
"""Nothing is denied."""


def upstream_access(
    environment: str, allowed: Iterable[str] = (), closed: Iterable[NetworkPort] = ()
) -> UpstreamAccess:
    """The rules of a gateway in `environment` that allows networks, with ports closed by the installation."""
    denied = DENIED if environment == DEVELOPMENT else (*LOOPBACK, *DENIED)
    return UpstreamAccess(denied, tuple(allowed), tuple(dict.fromkeys(closed)))


@lru_cache(1_000)
def own_network_ports(host: str, port: int) -> tuple[NetworkPort, ...]:
    """The networks through which a local server on `host:port` is reached; empty for a host name."""
    if host == "localhost":
        host = "127.0.0.1"
    try:
        address = ip_address(host)
    except ValueError:
        return ()
    if not (address.is_loopback or address.is_unspecified):
        return (NetworkPort(str(ip_network(address)), port),)
    return tuple(NetworkPort(network, port) for network in (*LOOPBACK, *THIS_HOST, "::ffff:0:0/96"))


def network_port(text: str) -> NetworkPort:
    """`NETWORK`, `ADDRESS`, or either with `:PORT`; IPv6 with a port in brackets. Raises ValueError."""
    network, port = text, 0
    if text.startswith("["):
        network, _, rest = text[1:].partition("]")
        if rest:
            port = _port(rest.removeprefix(":"))
    elif text.count(":") == 1:
        network, _, number = text.partition(":")
        port = _port(number)
    return NetworkPort(str(ip_network(network)), port)


@lru_cache(1_000)
def _network(text: str) -> Network:
    """Cached: every change of an API checks all networks."""
    return ip_network(text)


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise ValueError(f"{text!r} is no port")
    return int(text)
