"""Commands, and deciders of partition 0, for tests on the real Kafka."""

from schemas.aggregates.organization import DefineOrganization
from schemas.aggregates.project import DefineProject
from schemas.catalog import subject_of
from schemas.envelope import Envelope
from schemas.identity import timestamp
from streams.decider.decider import Decider
from streams.kafka.log import KafkaLog
from streams.log import Record, Topic


def command(id: str, name: str = "", organization: str = "acme") -> Envelope:
    """A command that is accepted once: it defines a project of a name."""
    made = (
        DefineProject(organization=organization, name=name)
        if name
        else DefineOrganization(organization=organization, name=organization)
    )
    return Envelope(
        id=id,
        type=made.type(),
        source="/tests",
        subject=subject_of(made, id),
        time=timestamp(),
        partitionkey=organization,
        data=made.data(),
    )


def decider(log: KafkaLog) -> Decider:
    return Decider(log, 0, "/tests/decider", lambda decided, seconds: None)


async def everything(log: KafkaLog, topic: Topic) -> list[Record]:
    records: list[Record] = []
    while more := await log.read(topic, 0, records[-1].position if records else 0, 1000):
        records += more
    return records


async def decided(log: KafkaLog, deciding: Decider, envelopes: list[Envelope]) -> None:
    """Appends and decides commands in one batch."""
    at = await log.end("commands", 0)
    await log.append("commands", envelopes)
    records = await log.read("commands", 0, at, 1000)
    await deciding.decide(records, records[-1].position)
