"""A decider on the real Kafka: fenced, uncertain, interrupted, and sent what it cannot read."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import RequestTimedOutError

from commands.partition_state import PartitionState
from schemas.aggregates.project import DefineProject
from schemas.envelope import Envelope, MessageKey
from schemas.identity import timestamp
from schemas.limits import MOST_ERRORS
from schemas.outcome import Outcome
from signalbox.devservers.kafka.server import DevKafka
from streams.decider.chain import verify
from streams.decider.decisions import Decisions
from streams.decider.head import ChainHead
from streams.kafka.log import KafkaLog
from streams.kafka.messages.wire import encode
from streams.kafka.producer import started_producer, stopped
from streams.kafka.settings import KafkaSettings
from streams.log import Fenced
from tests.streams.kafka_deciders import command, decided, decider, everything
from tests.support.hang_guard import HANG_SECONDS
from tests.support.real_kafka import settings_for


@pytest.fixture
async def log(kafka_settings: KafkaSettings, tmp_path: Path) -> AsyncIterator[KafkaLog]:
    opened = await KafkaLog.open(kafka_settings, tmp_path / "one")
    yield opened
    await opened.close()


@pytest.fixture
async def other(kafka_settings: KafkaSettings, log: KafkaLog, tmp_path: Path) -> AsyncIterator[KafkaLog]:
    opened = await KafkaLog.open(kafka_settings, tmp_path / "other")
    yield opened
    await opened.close()


async def test_positions_in_outcomes_are_those_the_events_came_to_stand_at(log: KafkaLog):
    deciding = decider(log)
    await deciding.start()
    await decided(log, deciding, [command("a")])
    await decided(log, deciding, [command("b", "one"), command("c", "two")])
    events = {record.envelope.causationid: record.position for record in await everything(log, "events")}
    outcomes = [Outcome.of(record.envelope.data) for record in await everything(log, "outcomes")]
    assert {o.name: o.position for o in outcomes} == events
    assert all(o.accepted for o in outcomes)


async def test_the_chain_is_whole_across_transactions_and_restarts(log: KafkaLog, other: KafkaLog):
    deciding = decider(log)
    await deciding.start()
    await decided(log, deciding, [command("a")])
    await decided(log, deciding, [command("b", "one")])
    await deciding.stop()
    second = decider(other)
    await second.start()
    await decided(other, second, [command("c", "two")])
    report = await verify(other, 0)
    assert (report.broken, report.events) == (None, 3)


async def test_a_command_id_is_decided_once_also_by_the_next_decider(log: KafkaLog, other: KafkaLog):
    deciding = decider(log)
    await deciding.start()
    await decided(log, deciding, [command("a"), command("a")])
    second = decider(other)
    await second.start()
    await decided(other, second, [command("a"), command("b", "one")])
    assert [r.envelope.causationid for r in await everything(other, "events")] == ["a", "b"]
    assert [r.envelope.id for r in await everything(other, "outcomes")] == ["a", "b"]


async def test_another_organization_may_use_the_same_id(log: KafkaLog, other: KafkaLog):
    deciding = decider(log)
    await deciding.start()
    await decided(log, deciding, [command("a")])
    await decided(log, deciding, [command("a", organization="umbrella"), command("b", "one")])
    second = decider(other)
    await second.start()
    await decided(other, second, [command("a", organization=name) for name in ("umbrella", "acme")])
    events = [record.envelope for record in await everything(other, "events")]
    assert [event.key[0] for event in events] == ["acme", "umbrella", "acme"]


async def test_commands_answered_before_ids_were_of_an_organization_are_still_known(
    log: KafkaLog, other: KafkaLog, monkeypatch: pytest.MonkeyPatch
):
    # Given a segment that an earlier version wrote, with the fingerprints of ids alone,
    def of_id(key: MessageKey) -> int:
        return int.from_bytes(blake2b(key[1].encode(), digest_size=8).digest(), "little")

    monkeypatch.setattr("streams.kafka.local_index.idempotency_index.SEGMENT", 3)
    with monkeypatch.context() as before:
        before.setattr("streams.kafka.local_index.idempotency_index.fingerprint", of_id)
        deciding = decider(log)
        await deciding.start()
        await decided(log, deciding, [command("a")])
        for n in range(4):
            await decided(log, deciding, [command(f"p{n}", f"p{n}")])

    # when its commands come again, and another organization uses an id of theirs,
    second = decider(other)
    await second.start()
    again = [command("a"), *(command(f"p{n}", f"p{n}") for n in range(4))]
    await decided(other, second, [*again, command("a", organization="umbrella")])

    # then only that one is decided.
    events = [record.envelope.key[0] for record in await everything(other, "events")]
    assert events == [*["acme"] * 5, "umbrella"]


async def test_a_command_that_is_sent_again_gets_the_first_answer(log: KafkaLog):
    deciding = decider(log)
    deciding.answer_again = True
    await deciding.start()
    await decided(log, deciding, [command("a")])
    await decided(log, deciding, [command("a")])
    first, second = (record.envelope for record in await everything(log, "outcomes"))
    assert first.data == second.data
    assert len(await everything(log, "events")) == 1


async def test_a_decider_whose_partition_was_taken_over_writes_nothing(log: KafkaLog, other: KafkaLog):
    first = decider(log)
    await first.start()
    await decided(log, first, [command("a")])
    second = decider(other)
    await second.start()
    await log.append("commands", [command("b", "one")])
    records = await log.read("commands", 0, 1, 10)
    with pytest.raises(Fenced):
        await first.decide(records, records[-1].position)
    await second.decide(records, records[-1].position)
    events = await everything(other, "events")
    assert [r.envelope.causationid for r in events] == ["a", "b"]
    assert (await verify(other, 0)).broken is None
    with pytest.raises(Fenced):
        await first.decide(records, records[-1].position)


async def test_an_unfinished_transaction_of_a_decider_that_died_is_never_seen(
    log: KafkaLog, kafka_settings: KafkaSettings
):
    dying = await started_producer(kafka_settings, f"{kafka_settings.group('decider')}-0")
    await dying.begin_transaction()
    await dying.send_and_wait(kafka_settings.topic("events"), b"{}", b"acme", 0)
    deciding = decider(log)
    await deciding.start()
    await decided(log, deciding, [command("a")])
    await stopped(dying)
    assert [r.envelope.causationid for r in await everything(log, "events")] == ["a"]
    assert (await verify(log, 0)).broken is None


async def test_a_transaction_with_an_unknown_result_is_decided_once(
    log: KafkaLog, monkeypatch: pytest.MonkeyPatch
):
    """The broker commits, and the connection is gone before it can say so."""
    deciding = decider(log)
    await deciding.start()
    await log.append("commands", [command("a")])
    commit = AIOKafkaProducer.commit_transaction

    async def lost(self: AIOKafkaProducer) -> None:
        await commit(self)
        monkeypatch.undo()
        raise RequestTimedOutError()

    monkeypatch.setattr(AIOKafkaProducer, "commit_transaction", lost)
    running = asyncio.create_task(deciding.run())
    async with asyncio.timeout(HANG_SECONDS):
        await log.wait("outcomes", 0, 0)
        await log.append("commands", [command("b", "one")])
        await log.wait("outcomes", 0, (await everything(log, "outcomes"))[0].position)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert [r.envelope.causationid for r in await everything(log, "events")] == ["a", "b"]
    assert [r.envelope.id for r in await everything(log, "outcomes")] == ["a", "b"]
    assert (await verify(log, 0)).broken is None


async def test_an_unreadable_command_is_rejected_where_its_sender_can_be_notified(
    log: KafkaLog, kafka_settings: KafkaSettings
):
    deciding = decider(log)
    await deciding.start()
    producer = await started_producer(kafka_settings)
    headers = [("ce_specversion", b"1.0"), ("ce_type", b"x"), ("ce_source", b"/s")]
    topic = kafka_settings.topic("commands")
    named = [*headers, ("ce_id", b"mine"), ("content-type", b"application/json")]
    await producer.send_and_wait(topic, b"{not json", b"acme", 0, headers=named)
    await producer.send_and_wait(topic, b"\x00\xff", b"acme", 0)
    await stopped(producer)
    await log.append("commands", [command("good")])
    records = await log.read("commands", 0, 0, 10)
    assert len(records) == 3
    await deciding.decide(records, records[-1].position)
    outcomes = {r.envelope.id: Outcome.of(r.envelope.data) for r in await everything(log, "outcomes")}
    assert outcomes["mine"].rule == "malformed"
    assert outcomes["good"].accepted
    (parked,) = await everything(log, "parked")
    assert (parked.envelope.data["position"], parked.envelope.data["rule"]) == (2, "malformed")
    # Mended, the same id is decided.
    await decided(log, deciding, [command("mine", "one")])
    assert [r.envelope.causationid for r in await everything(log, "events")] == ["good", "mine"]


async def test_a_command_without_a_time_was_requested_when_the_broker_took_it(
    log: KafkaLog, kafka_settings: KafkaSettings
):
    deciding = decider(log)
    await deciding.start()
    value, headers = encode(replace(command("timeless"), time=""))
    producer = await started_producer(kafka_settings)
    topic = kafka_settings.topic("commands")
    written = await producer.send_and_wait(topic, value, b"acme", 0, headers=headers)
    await stopped(producer)
    records = await log.read("commands", 0, 0, 10)
    await deciding.decide(records, records[-1].position)
    (outcome,) = (Outcome.of(r.envelope.data) for r in await everything(log, "outcomes"))
    assert outcome.accepted
    assert written.timestamp is not None
    assert outcome.requested_at == timestamp(written.timestamp / 1000)


async def test_the_widest_commands_that_the_broker_takes_are_answered(log: KafkaLog):
    deciding = decider(log)
    await deciding.start()
    wide = command("wide", "x")
    wide = replace(wide, data={**wide.data, **{f"k{n}": 0 for n in range(70_000)}})
    await decided(log, deciding, [command("a"), wide, command("b", "one")])
    records = {r.envelope.id: r for r in await everything(log, "outcomes")}
    outcome = Outcome.of(records["wide"].envelope.data)
    assert (outcome.rule, len(outcome.errors)) == ("invalid-command", MOST_ERRORS + 1)
    assert Outcome.of(records["b"].envelope.data).accepted


async def test_a_command_unreadable_in_any_attribute_is_parked(log: KafkaLog, kafka_settings: KafkaSettings):
    """Each such byte is three in UTF-8, and an id stands in three places of what is parked."""
    deciding = decider(log)
    await deciding.start()
    producer = await started_producer(kafka_settings)
    headers = [("ce_specversion", b"1.0"), ("ce_id", b"\xff" * 900_000)]
    await producer.send_and_wait(kafka_settings.topic("commands"), b"{}", b"acme", 0, headers=headers)
    await stopped(producer)
    await log.append("commands", [command("a")])
    records = await log.read("commands", 0, 0, 10)
    await deciding.decide(records, records[-1].position)
    assert len(await everything(log, "parked")) == 1
    assert [r.envelope.id for r in await everything(log, "outcomes")] == ["a"]


async def test_a_command_that_unpacks_to_more_than_the_limit_is_too_large(
    log: KafkaLog, kafka_settings: KafkaSettings
):
    deciding = decider(log)
    await deciding.start()
    async with AIOKafkaProducer(
        **kafka_settings.client(), compression_type="gzip", max_request_size=30_000_000
    ) as producer:
        huge = command("huge", "x")
        value, headers = encode(replace(huge, data={**huge.data, "description": "x" * 20_000_000}))
        topic = kafka_settings.topic("commands")
        await producer.send_and_wait(topic, value, b"acme", 0, headers=headers)
        nameless = [(name, content) for name, content in headers if name != "ce_id"]
        await producer.send_and_wait(topic, value, b"acme", 0, headers=nameless)
    await log.append("commands", [command("a")])
    records = [r for n in range(3) for r in await log.read("commands", 0, n, 1)]
    assert [record.position for record in records] == [1, 2, 3]
    await deciding.decide(records, records[-1].position)
    outcomes = {r.envelope.id: Outcome.of(r.envelope.data) for r in await everything(log, "outcomes")}
    assert outcomes["huge"].rule == "too-large"
    assert "takes 1,000,000" in outcomes["huge"].message
    assert outcomes["a"].accepted
    (parked,) = await everything(log, "parked")
    assert parked.envelope.data["rule"] == "too-large"
    # Smaller, the same id is decided.
    await decided(log, deciding, [command("huge", "x")])
    assert "huge" in [r.envelope.causationid for r in await everything(log, "events")]


async def test_a_command_in_another_organizations_partition_is_rejected(
    kafka_settings_of: Callable[[int], KafkaSettings], tmp_path: Path
):
    settings: KafkaSettings = kafka_settings_of(2)
    log = await KafkaLog.open(settings, tmp_path)
    try:
        wrong = 1 - log.partition_of("acme")
        producer = await started_producer(settings)
        astray = command("a")
        headers = [
            ("ce_" + name, value.encode())
            for name, value in astray.attributes().items()
            if name != "datacontenttype"
        ]
        await producer.send_and_wait(
            settings.topic("commands"),
            b"{}",
            b"acme",
            wrong,
            headers=[*headers, ("content-type", b"application/json")],
        )
        await stopped(producer)
        (record,) = await log.read("commands", wrong, 0, 10)
        assert record.fault is not None
        assert "its organization's is" in record.fault.reason
    finally:
        await log.close()


async def test_the_answers_of_long_ago_are_remembered_in_segments(
    log: KafkaLog, other: KafkaLog, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("streams.kafka.local_index.idempotency_index.SEGMENT", 3)
    deciding = decider(log)
    await deciding.start()
    await decided(log, deciding, [command("a")])
    for n in range(8):
        await decided(log, deciding, [command(f"p{n}", f"p{n}")])
    second = decider(other)
    await second.start()
    await decided(other, second, [command(f"p{n}", f"p{n}") for n in range(8)])
    assert len(await everything(other, "events")) == 9


async def test_a_decider_starts_with_more_outcomes_than_fit_into_a_message(
    shared_kafka: DevKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = replace(settings_for(shared_kafka), max_message=2_000)
    monkeypatch.setattr("streams.kafka.local_index.idempotency_index.SEGMENT", 100)
    log = await KafkaLog.open(settings, tmp_path)
    try:
        # given outcomes that were migrated: no decider has kept their ids
        old = command("old-0", "old")
        batch = Decisions(PartitionState(), ChainHead(), "/tests", timestamp(), 1)
        for n in range(1_500):
            batch.take(replace(old, id=f"old-{n}"), None)
        producer = await started_producer(settings)
        migrated = [encode(outcome) for outcome in batch.outcome_envelopes(again=False)]
        topic = settings.topic("outcomes")
        sent = [await producer.send(topic, value, b"acme", 0, headers=headers) for value, headers in migrated]
        await asyncio.gather(*sent)
        await stopped(producer)
        # when a decider starts and goes on
        deciding = decider(log)
        await deciding.start()
        await decided(log, deciding, [command("a")])
        await decided(log, deciding, [command("b", "one"), replace(old, id="old-1499")])
        # then it decides what is new and nothing twice, and the next start reads a rest only
        assert [r.envelope.causationid for r in await everything(log, "events")] == ["a", "b"]
        _, segments = await log.snapshots("answered", 0)
        assert sorted(segment.subject for segment in segments) == [f"{n:08d}" for n in range(15)]
    finally:
        await log.close()


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_a_command_may_come_compressed(log: KafkaLog, kafka_settings: KafkaSettings, codec: str):
    async with AIOKafkaProducer(**kafka_settings.client(), compression_type=codec) as producer:
        value, headers = encode(command("packed"))
        await producer.send_and_wait(kafka_settings.topic("commands"), value, b"acme", 0, headers=headers)
    (record,) = await log.read("commands", 0, 0, 10)
    assert (record.fault, record.envelope.id) == (None, "packed")


async def test_commands_of_other_versions_are_upcast_or_rejected_with_the_missing_version(
    log: KafkaLog, monkeypatch: pytest.MonkeyPatch
):
    def from_v0(old: Envelope) -> Envelope:
        data = {**old.data, "name": old.data["project"]}
        del data["project"]
        return replace(old, type=DefineProject.type(), data=data)

    family = DefineProject.type().removesuffix(".v1")
    monkeypatch.setattr("schemas.upcasting.UPCASTERS", {f"{family}.v0": from_v0})
    deciding = decider(log)
    await deciding.start()
    old = {"organization": "acme", "project": "outdated"}
    await decided(
        log,
        deciding,
        [
            command("a"),
            replace(command("old", "x"), type=f"{family}.v0", data=old),
            replace(command("future", "y"), type=f"{family}.v2"),
        ],
    )
    outcomes = {r.envelope.id: Outcome.of(r.envelope.data) for r in await everything(log, "outcomes")}
    assert outcomes["old"].accepted
    assert "needs version v2 of" in outcomes["future"].message
    events = [record.envelope.subject for record in await everything(log, "events")]
    assert "organizations/acme/projects/outdated" in events


async def test_a_command_written_with_a_later_schema_is_rejected_with_the_missing_one(
    log: KafkaLog, kafka_settings: KafkaSettings
):
    deciding = decider(log)
    await deciding.start()
    newer = replace(command("newer", "z"), dataschema=f"urn:signalbox:schema:{DefineProject.type()}:99")
    _, headers = encode(newer)
    avro = [(name, b"application/avro" if name == "content-type" else value) for name, value in headers]
    producer = await started_producer(kafka_settings)
    await producer.send_and_wait(kafka_settings.topic("commands"), b"\x00", b"acme", 0, headers=avro)
    await stopped(producer)
    records = await log.read("commands", 0, 0, 10)
    await deciding.decide(records, records[-1].position)
    (outcome,) = (Outcome.of(r.envelope.data) for r in await everything(log, "outcomes"))
    assert outcome.rule == "unknown-schema"
    assert "needs version 99" in outcome.message
