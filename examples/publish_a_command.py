"""Publishes an API and puts it on a gateway, with nothing but aiokafka and CloudEvents.

    pip install aiokafka cloudevents
    SIGNALBOX_COMMAND_TOKEN=$(signalbox token create --organization default --subject shop) \\
        python publish_a_command.py http://127.0.0.1:9000

The argument is the URL of the API's upstream. The gateway then serves the API at
http://127.0.0.1:8000/orders.
"""

import asyncio
import hashlib
import hmac
import os
import ssl
import sys
import uuid
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event, to_binary_event
from cloudevents.core.v1.event import CloudEvent

KAFKA = os.environ.get("SIGNALBOX_KAFKA", "127.0.0.1:9092")
PREFIX = os.environ.get("SIGNALBOX_KAFKA_PREFIX", "signalbox")
TOKEN = os.environ.get("SIGNALBOX_COMMAND_TOKEN", "")
ORGANIZATION = os.environ.get("SIGNALBOX_ORG", "default")
SECONDS = 30.0


def connection() -> dict[str, Any]:
    """How Kafka is reached: `SIGNALBOX_KAFKA_*`."""
    variables = ("TLS", "CA", "CERTIFICATE", "KEY", "MECHANISM", "USERNAME", "PASSWORD")
    tls, ca, certificate, key, mechanism, username, password = (
        os.environ.get(f"SIGNALBOX_KAFKA_{name}", "") for name in variables
    )
    encrypted = tls.lower() in ("1", "on", "true", "yes")
    protocol = ("SASL_" if mechanism else "") + ("SSL" if encrypted else "PLAINTEXT")
    found: dict[str, Any] = {"bootstrap_servers": KAFKA, "security_protocol": protocol}
    if encrypted:
        found["ssl_context"] = ssl.create_default_context(cafile=ca or None)
        if certificate:
            found["ssl_context"].load_cert_chain(certificate, key or None)
    if mechanism:
        found |= {
            "sasl_mechanism": mechanism,
            "sasl_plain_username": username,
            "sasl_plain_password": password,
        }
    return found


def command(verb: str, **data: object) -> CloudEvent:
    attributes = {"specversion": "1.0", "id": str(uuid.uuid4()), "source": "/shop"}
    attributes |= {"type": f"io.signalbox.{verb}.v1", "partitionkey": ORGANIZATION}
    return CloudEvent(attributes, {"organization": ORGANIZATION, **data})


def authorization(event: CloudEvent, body: bytes) -> bytes:
    """Binds the token to this command: whoever reads it on the topic can give no other one."""
    token, _, secret = TOKEN.partition("~")
    signed = (ORGANIZATION, event.get_id(), event.get_type(), event.get_subject() or "")
    text = "\n".join(("signalbox-command-v1", *signed, hashlib.sha256(body).hexdigest()))
    return f"{token}~{hmac.new(secret.encode(), text.encode(), 'sha256').hexdigest()}".encode()


async def main(upstream: str) -> None:
    spec = {
        "context": "/orders",
        "upstreams": [{"name": "main", "endpoints": [{"url": upstream}]}],
        "backends": [{"upstream": "main"}],
        "operations": [{"method": "GET", "path": "/*"}],
    }
    options = connection()
    outcomes = AIOKafkaConsumer(f"{PREFIX}.outcomes", isolation_level="read_committed", **options)
    producer = AIOKafkaProducer(**options)
    try:
        await outcomes.start()
        await producer.start()
        await outcomes.seek_to_end()  # before anything is published, so that no answer is missed
        for event in (
            command("api.command.publish", name="orders", spec=spec),
            command("deployment.command.start", api="orders", gateway="local"),
        ):
            sent = to_binary_event(event)
            headers = [*sent.headers.items(), ("ce_authorization", authorization(event, sent.value))]
            key = ORGANIZATION.encode()
            await producer.send_and_wait(f"{PREFIX}.commands", sent.value, key, headers=headers)
            outcome, message = await outcome_of(event.get_id(), outcomes)
            print(*filter(None, (event.get_type(), outcome, message)))
            if outcome != "accepted":
                sys.exit(1)
    finally:
        await producer.stop()
        await outcomes.stop()


async def outcome_of(id: str, outcomes: AIOKafkaConsumer) -> tuple[object, object]:
    """What came of a command: `accepted` or `rejected`, and the reason."""
    try:
        async with asyncio.timeout(SECONDS):
            async for record in outcomes:
                message = KafkaMessage(dict(record.headers), record.key, record.value or b"")
                answer = from_binary_event(message)
                if answer.get_extension("causationid") == id:
                    return answer.get_extension("outcome"), answer.get_extension("outcomemessage")
    except TimeoutError:
        pass
    sys.exit(f"no outcome yet; to send the command again, use its id: {id}")


if len(sys.argv) != 2:
    sys.exit("usage: publish_a_command.py URL-OF-THE-SERVICE")
if not TOKEN:
    sys.exit("SIGNALBOX_COMMAND_TOKEN is not set: `signalbox token create` makes one")
try:
    asyncio.run(main(sys.argv[1]))
except (KafkaError, OSError, ValueError) as error:
    sys.exit(f"Kafka at {KAFKA} cannot be used (see SIGNALBOX_KAFKA_*): {error or type(error).__name__}")
