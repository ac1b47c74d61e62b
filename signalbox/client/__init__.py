"""Publish commands and await what becomes of them, over Kafka or HTTP alike.

async with Client.kafka("127.0.0.1:9092", organization="acme", token=token) as client:
    outcome = await client.execute(PublishApi(organization="acme", name="orders", spec=spec))
"""

from signalbox.client.answers import ClientError, NoAnswer, Rejected
from signalbox.client.client import Client
from streams.kafka.settings import KafkaSettings
from streams.log import MessageTooLarge

__all__ = ["Client", "ClientError", "KafkaSettings", "MessageTooLarge", "NoAnswer", "Rejected"]
