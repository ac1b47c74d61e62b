"""xDS beyond loopback: with a certificate, or with plaintext that is explicitly enabled."""

import asyncio
import datetime
import ipaddress
import json
from contextlib import AsyncExitStack
from pathlib import Path

import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from signalbox.discovery.tls import identity, own_trust, trust
from signalbox.machine.ports import free_port
from signalbox.roles.runner import everything
from signalbox.settings import Address, Settings, SettingsError, from_environment
from tests.xds.proxies import GATEWAY, TOKEN, DeltaProxy, Remembering, entry
from tests.xds.translate.proxy import envoy_binary, validate
from xds.bootstrap import Trust, bootstrap
from xds.server.discovery import DiscoveryServer
from xds.store import ResourceStore


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A certificate of 127.0.0.1 that signs itself, and its key, as variables."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "xds.test")])
    day = datetime.timedelta(days=1)
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    shown, secret = tmp_path / "xds.crt", tmp_path / "xds.key"
    shown.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return {"SIGNALBOX_XDS_CERTIFICATE": str(shown), "SIGNALBOX_XDS_KEY": str(secret)}


@pytest.mark.parametrize("address", ["127.0.0.1:18000", "localhost:18000", "[::1]:18000"])
def test_on_loopback_plaintext_needs_no_setting(address: str) -> None:
    assert identity(from_environment({"SIGNALBOX_XDS": address})) is None


@pytest.mark.parametrize("address", ["0.0.0.0:18000", "10.0.0.1:18000", "[::]:18000", "xds.internal:18000"])
def test_beyond_loopback_plaintext_has_to_be_asked_for(address: str) -> None:
    with pytest.raises(SettingsError, match=r"SIGNALBOX_XDS_CERTIFICATE.*SIGNALBOX_XDS_PLAINTEXT=on"):
        identity(from_environment({"SIGNALBOX_XDS": address}))
    assert identity(from_environment({"SIGNALBOX_XDS": address, "SIGNALBOX_XDS_PLAINTEXT": "on"})) is None


async def test_signalbox_does_not_start_where_tokens_would_cross_a_network_in_plaintext(
    tmp_path: Path,
) -> None:
    settings = Settings(
        data=tmp_path,
        http=Address("127.0.0.1", free_port()),
        xds=Address("0.0.0.0", free_port()),
        envoy=False,
    )
    with pytest.raises(SettingsError, match="plaintext"):
        async with everything(settings) as roles:
            await roles.started()


def test_a_certificate_needs_its_key(files: dict[str, str]) -> None:
    del files["SIGNALBOX_XDS_KEY"]
    with pytest.raises(SettingsError, match="SIGNALBOX_XDS_KEY"):
        from_environment(files)


async def test_proxies_are_served_over_tls(files: dict[str, str]) -> None:
    store = ResourceStore()
    store.apply([entry("CDS", "a", "1")])
    server = DiscoveryServer(store, lambda gateway, token: (gateway, token) == (GATEWAY, TOKEN))
    shown = identity(from_environment(files))
    assert shown is not None
    port = await server.start("127.0.0.1", 0, shown)
    root = shown.certificates
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(root)) as channel:
        proxy = DeltaProxy(channel, "node-1")
        await proxy.ask("CDS")
        assert [resource.name for resource in (await proxy.next()).resources] == ["a"]
        await proxy.close()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        proxy = DeltaProxy(channel, "node-1")
        with pytest.raises(grpc.aio.AioRpcError):
            await proxy.ask("CDS")
            await proxy.receive()
    await server.stop(0)


def test_an_envoy_that_is_started_here_verifies_the_server(files: dict[str, str]) -> None:
    ca = files["SIGNALBOX_XDS_CERTIFICATE"]
    assert own_trust(from_environment(files)) == Trust(ca)
    assert own_trust(from_environment({})) is None
    assert trust(from_environment({"SIGNALBOX_XDS_CA": ca}), ["xds.test"]) == Trust(ca, ("xds.test",))


@pytest.mark.usefixtures("envoy")
async def test_envoy_is_served_over_tls_and_asks_for_the_servers_name(
    files: dict[str, str], tmp_path: Path
) -> None:
    seen, shown = Remembering(), identity(from_environment(files))
    server = DiscoveryServer(ResourceStore(), lambda gateway, token: True, seen)
    port = await server.start("127.0.0.1", 0, shown)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.stop, 0)
        for node, name in (("stranger", "xds.test"), ("friend", "127.0.0.1")):
            made = bootstrap(
                node_id=node,
                gateway=GATEWAY,
                token=TOKEN,
                xds_host="127.0.0.1",
                xds_port=port,
                trust=Trust(files["SIGNALBOX_XDS_CERTIFICATE"], (name,)),
                admin_socket=str(tmp_path / node),
            )
            file = tmp_path / f"{node}.json"
            file.write_text(json.dumps(made), encoding="utf-8")
            options = ("--use-dynamic-base-id", "--concurrency", "1", "-l", "off")
            envoy = await asyncio.create_subprocess_exec(envoy_binary(), "-c", str(file), *options)
            stack.push_async_callback(envoy.wait)
            stack.callback(envoy.kill)
        await seen.until(lambda: bool(seen.names("connected", "friend")))
        assert not seen.names("connected", "stranger")


@pytest.mark.usefixtures("envoy")
@pytest.mark.parametrize("names", [(), ("xds.test", "10.0.0.1"), ("10.0.0.1",)])
def test_envoy_takes_the_bootstrap(names: tuple[str, ...], files: dict[str, str], tmp_path: Path) -> None:
    made = bootstrap(
        node_id="node-1",
        gateway=GATEWAY,
        token=TOKEN,
        xds_host="xds.test",
        xds_port=18000,
        trust=Trust(files["SIGNALBOX_XDS_CERTIFICATE"], names),
    )
    assert "UpstreamTlsContext" in json.dumps(made)
    assert validate(made, tmp_path) == ""
