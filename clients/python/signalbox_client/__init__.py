"""Publishes commands to Signalbox over Kafka or HTTP and awaits their outcomes.

async with Client.http("http://127.0.0.1:8080", organization="acme", token=token) as client:
    outcome = await client.execute(PublishApi(organization="acme", name="orders", spec=spec))
"""

from signalbox_client.answers import ClientError, MessageTooLarge, NoAnswer, Rejected
from signalbox_client.client import Client
from signalbox_client.kafka_settings import KafkaSettings

__all__ = ["Client", "ClientError", "KafkaSettings", "MessageTooLarge", "NoAnswer", "Rejected"]
