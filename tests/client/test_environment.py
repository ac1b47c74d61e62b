"""The settings of a client over Kafka."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from signalbox_client import Client, KafkaSettings
from signalbox_client import kafka as kafka_module

SASL = {"MECHANISM": "PLAIN", "USERNAME": "billing", "PASSWORD": "hush", "PREFIX": "shop"}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[KafkaSettings]:
    """The settings that transports are made with."""
    found: list[KafkaSettings] = []

    def transport(settings: KafkaSettings, *others: Any) -> object:
        found.append(settings)
        return object()

    monkeypatch.setattr(kafka_module, "KafkaTransport", transport)
    return found


def given(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"SIGNALBOX_KAFKA_{name}", value)


def test_servers_are_reached_as_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, taken: list[KafkaSettings], tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("")
    given(monkeypatch, {**SASL, "TLS": "on", "CA": str(ca)})
    monkeypatch.setenv("SIGNALBOX_KAFKA", "other.test:1")

    Client.kafka("kafka.test:9093", token="t", organization="acme")

    (found,) = taken
    assert (found.bootstrap, found.prefix) == ("kafka.test:9093", "shop")
    assert (found.mechanism, found.username, found.password) == ("PLAIN", "billing", "hush")
    assert (found.tls, found.ca) == (True, str(ca))


def test_settings_that_are_given_stand(monkeypatch: pytest.MonkeyPatch, taken: list[KafkaSettings]) -> None:
    given(monkeypatch, SASL)
    own = KafkaSettings(bootstrap="kafka.test:9093")

    Client.kafka(own, token="t", organization="acme")

    assert taken == [own]


def test_variables_that_do_not_go_together_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, taken: list[KafkaSettings]
) -> None:
    given(monkeypatch, {"MECHANISM": "PLAIN"})

    with pytest.raises(ValueError, match="set SIGNALBOX_KAFKA_USERNAME and SIGNALBOX_KAFKA_PASSWORD too"):
        Client.kafka("kafka.test:9093", token="t", organization="acme")

    assert taken == []
