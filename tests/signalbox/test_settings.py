"""Settings of a process, and the sentence for an invalid one."""

from pathlib import Path

import pytest

from gateways.upstream_access import NetworkPort
from signalbox.closed_upstreams import closed_upstreams
from signalbox.settings import SettingsError, from_environment, require_services
from streams.kafka.settings import KafkaSettings


def test_signalboxs_own_addresses_and_those_of_the_operator_are_closed_to_upstreams() -> None:
    settings = from_environment(
        {"SIGNALBOX_CLOSED_UPSTREAMS": "10.0.0.0/8, 192.168.0.1:22", "SIGNALBOX_KAFKA": "127.0.0.1:9092"},
        http="0.0.0.0:8080",
        xds="10.2.3.4:18000",
    )

    closed = closed_upstreams(settings)

    assert NetworkPort("127.0.0.0/8", 8080) in closed
    assert NetworkPort("::1/128", 8080) in closed
    assert NetworkPort("10.2.3.4/32", 18000) in closed
    assert NetworkPort("127.0.0.0/8", 9092) in closed
    assert NetworkPort("10.0.0.0/8") in closed
    assert NetworkPort("192.168.0.1/32", 22) in closed


@pytest.mark.parametrize("text", ["nowhere", "10.0.0.0/99", "10.0.0.1:99999"])
def test_a_closed_upstream_that_is_no_network_is_reported(text: str) -> None:
    with pytest.raises(SettingsError, match="SIGNALBOX_CLOSED_UPSTREAMS takes"):
        from_environment({"SIGNALBOX_CLOSED_UPSTREAMS": text})


def test_kafka_is_as_the_variables_say() -> None:
    settings = from_environment(
        {
            "SIGNALBOX_KAFKA": "one:9092,two:9092",
            "SIGNALBOX_KAFKA_PREFIX": "acme.signalbox",
            "SIGNALBOX_KAFKA_PARTITIONS": "8",
            "SIGNALBOX_KAFKA_REPLICATION": "3",
            "SIGNALBOX_KAFKA_TLS": "on",
            "SIGNALBOX_KAFKA_CA": __file__,
            "SIGNALBOX_KAFKA_MECHANISM": "SCRAM-SHA-512",
            "SIGNALBOX_KAFKA_USERNAME": "signalbox",
            "SIGNALBOX_KAFKA_PASSWORD": "s3cret",
        },
        engine="kafka",
    )
    assert settings.kafka == KafkaSettings(
        bootstrap="one:9092,two:9092",
        prefix="acme.signalbox",
        partitions=8,
        replication=3,
        tls=True,
        ca=__file__,
        mechanism="SCRAM-SHA-512",
        username="signalbox",
        password="s3cret",
    )
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize(
    "url",
    ["postgres://u:p@db/signalbox", "postgresql://u:p@db/signalbox", "postgresql+psycopg://u:p@db/signalbox"],
)
def test_a_database_may_be_named_in_any_usual_way(url: str) -> None:
    settings = from_environment({"SIGNALBOX_POSTGRES": url})
    assert settings.postgres == "postgresql+psycopg://u:p@db/signalbox"
    assert "u:p" not in repr(settings)


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"SIGNALBOX_ENGINE": "redis"}, "--engine takes 'embedded' or 'kafka'; 'redis' is neither."),
        ({"SIGNALBOX_KAFKA": "kafka"}, "SIGNALBOX_KAFKA takes HOST:PORT"),
        ({"SIGNALBOX_KAFKA": "one:9092,two"}, "'two' is not."),
        ({"SIGNALBOX_KAFKA_PARTITIONS": "0"}, "SIGNALBOX_KAFKA_PARTITIONS takes a number from 1 to 4096"),
        ({"SIGNALBOX_KAFKA_REPLICATION": "three"}, "SIGNALBOX_KAFKA_REPLICATION takes a number"),
        ({"SIGNALBOX_KAFKA_PREFIX": "a b"}, "SIGNALBOX_KAFKA_PREFIX takes letters"),
        ({"SIGNALBOX_KAFKA_TLS": "maybe"}, "SIGNALBOX_KAFKA_TLS takes 'on' or 'off'"),
        ({"SIGNALBOX_KAFKA_CA": "/no/such.pem"}, "SIGNALBOX_KAFKA_CA names a file; there is none"),
        ({"SIGNALBOX_KAFKA_CA": __file__}, "need SIGNALBOX_KAFKA_TLS=on"),
        ({"SIGNALBOX_KAFKA_MECHANISM": "GSSAPI"}, "takes PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"),
        ({"SIGNALBOX_KAFKA_MECHANISM": "PLAIN"}, "set SIGNALBOX_KAFKA_USERNAME"),
        (
            {"SIGNALBOX_POSTGRES": "mysql://u:hunter2@db/x"},
            "SIGNALBOX_POSTGRES takes a URL such as postgresql:",
        ),
        ({"SIGNALBOX_HEALTH": "9090x"}, "--health takes HOST:PORT"),
    ],
)
def test_a_wrong_setting_gets_a_sentence(variables: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        from_environment(variables)
    assert sentence in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_roles_say_what_they_need() -> None:
    nothing = from_environment({})
    with pytest.raises(SettingsError, match="SIGNALBOX_KAFKA must name"):
        require_services(nothing, ["decider"])
    kafka = from_environment({"SIGNALBOX_KAFKA": "kafka:9092"})
    require_services(kafka, ["decider", "gateway-sync", "xds", "envoy"])
    with pytest.raises(SettingsError, match="SIGNALBOX_POSTGRES must name the database of api, projector"):
        require_services(kafka, ["projector", "decider", "api"])


def test_secrets_may_be_shared_by_processes_with_data_of_their_own() -> None:
    shared = from_environment({"SIGNALBOX_DATA": "/mine", "SIGNALBOX_SECRETS": "/shared"})
    assert (shared.admin_token, shared.signing_key) == (
        Path("/shared/admin.token"),
        Path("/shared/signing.jwk"),
    )
    alone = from_environment({"SIGNALBOX_DATA": "/mine", "SIGNALBOX_TRUSTED_KEYS": "/etc/trusted.jwks"})
    assert (alone.gateway_token, alone.trusted_keys) == (
        Path("/mine/gateway.token"),
        Path("/etc/trusted.jwks"),
    )
