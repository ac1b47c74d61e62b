"""Publishes an API and puts it on a gateway, with nothing but aiokafka and CloudEvents.

    pip install aiokafka cloudevents
    SIGNALBOX_COMMAND_TOKEN=$(signalbox token create --organization default --subject shop) \\
        python publish_a_command.py http://127.0.0.1:9000

The argument is where the API's requests go. The API answers at http://127.0.0.1:8000/orders then.
"""

import asyncio
import os
import sys
import uuid

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event, to_binary_event
from cloudevents.core.v1.event import CloudEvent

KAFKA = os.environ.get("SIGNALBOX_KAFKA", "127.0.0.1:9092")
PREFIX = os.environ.get("SIGNALBOX_KAFKA_PREFIX", "signalbox")
TOKEN = os.environ["SIGNALBOX_COMMAND_TOKEN"]
ORGANIZATION = "default"


def command(verb: str, **data: object) -> CloudEvent:
    attributes = {"specversion": "1.0", "id": str(uuid.uuid4()), "source": "/shop", "authorization": TOKEN}
    attributes |= {"type": f"io.signalbox.{verb}.v1", "partitionkey": ORGANIZATION}
    return CloudEvent(attributes, {"organization": ORGANIZATION, **data})


async def main(upstream: str) -> None:
    spec = {
        "context": "/orders",
        "upstreams": [{"name": "main", "endpoints": [{"url": upstream}]}],
        "backends": [{"upstream": "main"}],
        "operations": [{"method": "GET", "path": "/*"}],
    }
    outcomes = AIOKafkaConsumer(
        f"{PREFIX}.outcomes", bootstrap_servers=KAFKA, isolation_level="read_committed"
    )
    async with outcomes, AIOKafkaProducer(bootstrap_servers=KAFKA) as producer:
        await outcomes.seek_to_end()  # before anything is published, so that no answer is missed
        for event in (
            command("api.command.publish", name="orders", spec=spec),
            command("deployment.command.start", api="orders", gateway="local"),
        ):
            sent = to_binary_event(event)
            headers = list(sent.headers.items())
            await producer.send_and_wait(f"{PREFIX}.commands", sent.value, sent.key.encode(), headers=headers)
            async for message in outcomes:
                answer = from_binary_event(KafkaMessage(dict(message.headers), message.key, message.value))
                if answer.get_extension("causationid") == event.get_id():
                    break
            print(event.get_type(), answer.get_extension("outcome"), answer.get_extension("outcomemessage"))


asyncio.run(main(sys.argv[1]))
