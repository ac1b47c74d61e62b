"""What only the way over Kafka has: tokens, outsiders, brokers that go away, schemas of later versions."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event, to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from schemas.aggregates.project import DefineProject
from schemas.codecs.avro import URN, encode, schema
from schemas.codecs.canonical import canonical
from schemas.identity import uuid7
from schemas.outcome import Outcome
from signalbox.devservers.kafka.server import DevKafka
from signalbox_client import Client, ClientError, Rejected
from streams.kafka.messages import wire
from streams.kafka.producer import started_producer, stopped
from streams.kafka.security.binding import authorization
from streams.kafka.settings import KafkaSettings
from tests.client.served import ORGANIZATION, Served, client_settings, over_kafka, service_token
from tests.signalbox.server_stand_in import Scripted, StandIn, server
from tests.streams.envelopes import envelope
from tests.support.hang_guard import HANG_SECONDS
from tests.support.real_kafka import settings_for

SHOP = DefineProject(organization="acme", name="shop")


@pytest.fixture
async def served(kafka_settings: KafkaSettings, tmp_path: Path) -> AsyncIterator[Served]:
    async with over_kafka(kafka_settings, tmp_path) as made:
        yield made


def client(settings: KafkaSettings, token: str, schemas: str = "") -> Client:
    return Client.kafka(client_settings(settings), token=token, organization=ORGANIZATION, schemas=schemas)


async def test_the_register_names_the_service_that_the_token_is_for(served: Served) -> None:
    async with served.client() as billing:
        outcome = await billing.execute(SHOP)
    event = (await served.events())[-1]
    assert (event.causationid, event.authtype, event.authid) == (outcome.name, "service", "billing")
    assert not any("authorization" in str(e.structured()) for e in await served.events())


@pytest.mark.parametrize("token", ["", "no.token.at-all", "for-umbrella", "expired"])
async def test_a_command_that_its_sender_may_not_give_is_rejected_and_may_be_sent_again_with_a_better_token(
    served: Served, kafka_settings: KafkaSettings, tmp_path: Path, token: str
) -> None:
    tokens = {
        "for-umbrella": service_token(tmp_path, organization="umbrella"),
        "expired": service_token(tmp_path, seconds=-1),
    }
    id = uuid7()
    async with client(kafka_settings, tokens.get(token, token)) as intruder:
        with pytest.raises(Rejected) as refused:
            await intruder.execute(SHOP, id=id)
    assert refused.value.rule == "unauthorized"
    assert [e for e in await served.events() if e.causationid == id] == []
    async with served.client() as billing:
        assert (await billing.execute(SHOP, id=id)).accepted


async def test_a_reader_of_the_topic_cannot_use_a_token_for_another_command(
    served: Served, kafka_settings: KafkaSettings
) -> None:
    # Given a command of a service, as any reader of the topic gets it
    async with served.client() as billing:
        await billing.execute(SHOP)
        consumer = AIOKafkaConsumer(**kafka_settings.client(), auto_offset_reset="earliest")
        await consumer.start()
        place = TopicPartition(kafka_settings.topic("commands"), 0)
        consumer.assign([place])
        async with asyncio.timeout(HANG_SECONDS):
            records = [await consumer.getone() for _ in range(await how_many(consumer, place))]
        await consumer.stop()
        read = dict(records[-1].headers)
        assert read["ce_type"].decode() == SHOP.type()
        # When it is sent with other data under another id, with the token as it was or cut
        whole = read["ce_authorization"]
        for id, token in (("with-proof", whole), ("without", whole.partition(b"~")[0])):
            stolen = {**read, "ce_id": id.encode(), "ce_authorization": token}
            other = {"organization": "acme", "name": id}
            stolen["content-type"] = b"application/json"
            stolen.pop("ce_dataschema", None)
            await send(kafka_settings, orjson.dumps(other), list(stolen.items()))
            # Then it is refused, and nothing happens
            with pytest.raises(Rejected) as refused:
                await billing.outcome(id)
            assert refused.value.rule == "unauthorized"
    assert [e.data["name"] for e in await served.events() if "project" in e.type] == ["shop"]


async def how_many(consumer: AIOKafkaConsumer, place: TopicPartition) -> int:
    return (await consumer.end_offsets([place]))[place]


async def send(settings: KafkaSettings, value: bytes, headers: list[tuple[str, bytes]]) -> None:
    producer = await started_producer(settings)
    try:
        await producer.send_and_wait(settings.topic("commands"), value, b"acme", 0, headers=headers)
    finally:
        await stopped(producer)


async def test_an_unreadable_message_is_parked_with_its_reason_and_stops_nothing(
    served: Served, kafka_settings: KafkaSettings
) -> None:
    await send(kafka_settings, b"\xff not an event", [])
    async with served.client() as billing:
        assert (await billing.execute(SHOP)).accepted
    [record] = await served.log.read("parked", 0, 0, 10)
    assert record.envelope.type == "io.signalbox.message.parked.v1"
    output = record.envelope.data
    assert (output["topic"], output["rule"], output["size"]) == (
        "commands",
        "malformed",
        len(b"\xff not an event"),
    )
    assert "not a CloudEvent" in output["reason"]


def as_others_write(id: str, name: str) -> CloudEvent:
    attributes = {
        "id": id,
        "source": "/others",
        "type": DefineProject.type(),
        "partitionkey": "acme",
        "specversion": "1.0",
    }
    return CloudEvent(attributes, {"organization": "acme", "name": name})


@pytest.mark.parametrize("mode", ["binary", "structured"])
async def test_a_client_of_cloudevents_alone_publishes_and_reads_the_answer(
    served: Served, kafka_settings: KafkaSettings, tmp_path: Path, mode: str
) -> None:
    """With the CloudEvents SDK and aiokafka, and without a schema."""
    consumer = AIOKafkaConsumer(
        kafka_settings.topic("outcomes"),
        **kafka_settings.client(),
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    )
    producer = AIOKafkaProducer(**kafka_settings.client())
    await producer.start()
    await consumer.start()
    try:
        answers: dict[str, Any] = {}
        for id, name in (("good", "shop"), ("bad", "")):
            event = as_others_write(id, name)
            body = to_binary(event, JSONFormat()).value if mode == "binary" else canonical(event.get_data())
            text = replace(envelope(key="acme"), id=id, type=event.get_type(), subject="")
            event.get_attributes()["authorization"] = authorization(service_token(tmp_path), text, body)
            write = to_binary if mode == "binary" else to_structured
            message: KafkaMessage = write(event, JSONFormat())
            await producer.send_and_wait(
                kafka_settings.topic("commands"),
                message.value,
                b"acme",
                headers=list(message.headers.items()),
            )
        async with asyncio.timeout(HANG_SECONDS):
            while not {"good", "bad"} <= set(answers):
                found = await consumer.getone()
                read = from_binary_event(KafkaMessage(dict(found.headers), found.key, found.value or b""))
                answers[str(read.get_extension("causationid"))] = read.get_extension
    finally:
        await consumer.stop()
        await producer.stop()
    assert answers["good"]("outcome") == "accepted"
    assert answers["bad"]("outcome") == "rejected"
    assert answers["bad"]("outcomerule") == "invalid-command"
    assert answers["bad"]("outcomemessage") == "The command's data is not valid."


async def test_a_rejection_of_another_senders_command_with_our_id_is_not_taken_for_ours(
    served: Served, kafka_settings: KafkaSettings
) -> None:
    id = uuid7()
    await served.pause()
    async with served.client() as billing, client(kafka_settings, "no token") as intruder:
        # given commands that others sent with an id, of which none is decided yet
        other = DefineProject(organization="acme", name="other")
        await intruder.publish(other, id=id)
        await send(kafka_settings, b"\xff", [("ce_id", id.encode()), ("ce_specversion", b"1.0")])
        # when ours is sent with that id, and all are decided
        waiting = asyncio.create_task(billing.execute(SHOP, id=id))
        await served.resume()
        # then each gets its own answer
        assert (await waiting).accepted
        with pytest.raises(Rejected) as refused:
            await intruder.outcome(id)
    assert refused.value.rule == "unauthorized"


async def later_outcome(served: Served, settings: KafkaSettings, id: str) -> dict[str, Any]:
    """An outcome as a later version of Signalbox would write it; the schema it is written with."""
    async with served.client() as billing:
        first = await billing.execute(SHOP)
    outcome = first.model_copy(update={"name": id})
    later = schema(Outcome)
    later["fields"].append({"name": "weather", "type": "string", "default": ""})
    envelope = replace((await served.log.read("outcomes", 0, 0, 10))[-1].envelope, id=id, causationid=id)
    _, headers = wire.encode(envelope)
    named = [(n, v) for n, v in headers if n != "ce_dataschema"]
    named.append(("ce_dataschema", f"{URN}{Outcome.type()}:999".encode()))
    value = encode(outcome) + b"\x0asunny"
    producer = await started_producer(settings)
    try:
        await producer.send_and_wait(settings.topic("outcomes"), value, b"acme", 0, headers=named)
    finally:
        await stopped(producer)
    return later


@pytest.fixture
def elsewhere() -> Any:
    with server() as running:
        yield running


async def test_an_outcome_of_a_later_version_is_read_with_the_schema_that_signalbox_serves(
    served: Served, kafka_settings: KafkaSettings, tmp_path: Path, elsewhere: StandIn
) -> None:
    id = uuid7()
    later = await later_outcome(served, kafka_settings, id)
    elsewhere.answers[f"GET /schemas/{Outcome.type()}/999"] = Scripted(later)
    token = service_token(tmp_path)
    async with client(kafka_settings, token, elsewhere.url) as knows:
        assert (await knows.outcome(id)).version == 1
    async with client(kafka_settings, token) as ignorant:
        with pytest.raises(ClientError, match="needs version 999"):
            await ignorant.outcome(id)


async def test_a_broker_that_restarts_is_waited_for(own_kafka: DevKafka, tmp_path: Path) -> None:
    settings = settings_for(own_kafka)
    async with over_kafka(settings, tmp_path) as made, made.client() as billing:
        own_kafka.kill()
        waiting = asyncio.create_task(billing.execute(SHOP, seconds=60))
        assert await asyncio.to_thread(own_kafka.start) == settings.bootstrap
        outcome = await waiting
        assert (outcome.accepted, outcome.version) == (True, 1)
        assert len([e for e in await made.events() if e.causationid == outcome.name]) == 1


async def test_a_missing_broker_is_reported_at_the_start() -> None:
    nowhere = KafkaSettings(bootstrap="127.0.0.1:1")
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:1"):
        async with client(nowhere, "token"):
            pass
