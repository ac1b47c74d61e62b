"""What was so at a time is what was so at a position, also when the clock of the decider goes back."""

from pathlib import Path

from projections.catalog import READ_MODELS
from projections.queries import ReadModels
from projections.store import Store
from schemas.aggregates.project import PROJECT, DefineProject
from streams.log import Record
from streams.projection.writer import Writer
from tests.commands.shop import ORG
from tests.streams.batches import batch
from tests.streams.decider_cases import desk, envelope
from tests.streams.test_decider import DEFAULT_RESOURCES

CLOCK = (10, 12, 11, 5, 12, 13, 1, 14)


def at(second: int) -> str:
    return f"2026-11-21T02:12:{second:02d}.000000Z"


async def decided(directory: Path) -> list[Record]:
    """The events of a decider whose clock goes forth and back; half of the time it is a new one."""
    for number, second in enumerate(CLOCK):
        async with desk(directory) as here:
            here.decider.clock = lambda second=second: at(second)
            title = DefineProject(organization=ORG, name=f"p{number % 3}", display_name=str(number))
            await here.decide(
                *(envelope(c) for c in (DEFAULT_RESOURCES[:1] if number == 0 else ())), envelope(title)
            )
            if number % 2:
                await here.decider.stop()
    async with desk(directory) as here:
        return list(await here.log.read("events", 0, 0, 100))


async def test_as_of_a_time_and_as_of_a_position_agree(tmp_path: Path, store: Store, ask: ReadModels):
    records = await decided(tmp_path)
    writer = Writer(store, READ_MODELS, 1)
    writer.open()
    writer.apply({"events": batch(records)})

    async def titles(as_of: int | str) -> list[str]:
        found = [await ask.get(PROJECT, ORG, f"p{n}", as_of=as_of) for n in range(3)]
        return [row.document["display_name"] for row in found if row is not None]

    for second in range(16):
        before = [r.position for r in records if r.envelope.time <= at(second)]
        assert await titles(at(second)) == await titles(max(before, default=0)), second
    assert [r.envelope.time for r in records[1:]] == [at(n) for n in (10, 12, 12, 12, 12, 13, 13, 14)]
