"""The addresses of Signalbox and its servers: upstreams of APIs must not be there."""

from urllib.parse import urlsplit

from gateways.upstream_access import NetworkPort, own_network_ports
from signalbox.settings import Address, Settings, address


def closed_upstreams(settings: Settings) -> tuple[NetworkPort, ...]:
    """HTTP API, xDS server, health checks, Kafka and PostgreSQL (if given by IP address), and the addresses
    that the operator configured.
    """
    addresses = [settings.http, settings.xds]
    if settings.health:
        addresses.append(settings.health)
    if settings.kafka.bootstrap:
        addresses += [
            address(server.strip(), "SIGNALBOX_KAFKA") for server in settings.kafka.bootstrap.split(",")
        ]
    database = urlsplit(settings.postgres)
    if database.hostname:
        addresses.append(Address(database.hostname, database.port or 5432))
    own = (place for each in addresses for place in own_network_ports(each.host, each.port))
    return tuple(dict.fromkeys((*own, *settings.closed_upstreams)))
