"""TLS of the xDS server: tokens do not cross a network in plaintext unless the operator allows it."""

from collections.abc import Sequence
from ipaddress import ip_address

from signalbox.settings import Settings, SettingsError
from xds.bootstrap import Trust
from xds.server.rpc import Identity


def identity(settings: Settings) -> Identity | None:
    """The certificate and key of the xDS server; None for plaintext.

    Raises SettingsError if it listens beyond loopback and neither a certificate nor plaintext is
    configured; OSError for files that cannot be read.
    """
    if settings.xds_certificate and settings.xds_key:
        return Identity(settings.xds_key.read_bytes(), settings.xds_certificate.read_bytes())
    if settings.xds_plaintext or is_loopback(settings.xds.host):
        return None
    raise SettingsError(
        f"xDS on {settings.xds} would get gateways' tokens in plaintext: name a certificate and its key in "
        "SIGNALBOX_XDS_CERTIFICATE and SIGNALBOX_XDS_KEY, listen on loopback (--xds 127.0.0.1:18000), or set "
        "SIGNALBOX_XDS_PLAINTEXT=on where the network is private."
    )


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only; a name is not looked up."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def trust(settings: Settings, servers: Sequence[str]) -> Trust | None:
    """How an Envoy verifies the xDS servers of these host names; None for plaintext."""
    return Trust(str(settings.xds_ca), tuple(servers)) if settings.xds_ca else own_trust(settings)


def own_trust(settings: Settings) -> Trust | None:
    """How an Envoy verifies the xDS server of its own process, whose name need not be in the certificate."""
    ca = settings.xds_ca or settings.xds_certificate
    return Trust(str(ca)) if settings.xds_certificate else None
