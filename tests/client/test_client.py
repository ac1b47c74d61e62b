"""The client does the same over Kafka and over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from schemas.aggregates.project import DefineProject, DeleteProject
from schemas.identity import uuid7
from signalbox_client import MessageTooLarge, NoAnswer, Rejected
from tests.client.served import Served, over_http, over_kafka


@pytest.fixture(params=[pytest.param("kafka", marks=pytest.mark.real), "http"])
async def served(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Served]:
    if request.param == "http":
        async with over_http(tmp_path) as made:
            yield made
    else:
        async with over_kafka(request.getfixturevalue("kafka_settings"), tmp_path) as made:
            yield made


def shop(description: str = "") -> DefineProject:
    return DefineProject(organization="acme", name="shop", description=description)


async def test_a_command_that_is_accepted_answers_where_it_stands(served: Served) -> None:
    async with served.client() as client:
        outcome = await client.execute(shop())
    assert outcome.accepted
    assert (outcome.subject, outcome.version, outcome.events) == ("organizations/acme/projects/shop", 1, 1)
    event = (await served.log.read("events", 0, outcome.position - 1, 1))[0].envelope
    assert (event.type, event.causationid) == ("io.signalbox.project.defined.v1", outcome.name)


async def test_a_command_that_is_rejected_says_by_which_rule_and_why(served: Served) -> None:
    async with served.client() as client:
        with pytest.raises(Rejected) as refused:
            await client.execute(DeleteProject(organization="acme", name="shop"))
    assert refused.value.rule == "not-found"
    assert "shop" in refused.value.message


async def test_a_command_can_be_published_now_and_asked_about_later(served: Served) -> None:
    async with served.client() as client:
        first, second = [await client.publish(shop(text)) for text in ("one", "two")]
        assert (await client.outcome(second)).version == 2
        assert (await client.outcome(first)).version == 1


async def test_another_process_can_ask_for_the_outcome_of_a_command(served: Served) -> None:
    async with served.client() as client:
        done = await client.execute(shop())
        with pytest.raises(Rejected):
            await client.execute(DeleteProject(organization="acme", name="other"), id="by-hand")
    async with served.client() as later:
        known = await later.outcome(done.name)
        assert (known.position, known.version) == (done.position, 1)
        with pytest.raises(Rejected, match="not-found"):
            await later.outcome("by-hand")


async def test_the_same_command_sent_again_is_done_once_and_answered_the_same(served: Served) -> None:
    id = uuid7()
    async with served.client() as client:
        first = await client.execute(shop(), id=id)
        assert (await client.execute(shop(), id=id)).position == first.position
    async with served.client() as restarted:
        assert (await restarted.execute(shop(), id=id)).position == first.position
    assert len([e for e in await served.events() if e.causationid == id]) == 1


async def test_an_id_that_was_used_for_another_command_is_rejected(served: Served) -> None:
    id = uuid7()
    async with served.client() as client:
        await client.execute(shop(), id=id)
    async with served.client() as other:
        with pytest.raises(Rejected) as refused:
            await other.execute(shop("another"), id=id)
    assert refused.value.rule == "command-id-reused"


async def test_without_an_answer_the_same_id_can_be_sent_again(served: Served) -> None:
    await served.pause()
    async with served.client() as client:
        with pytest.raises(NoAnswer, match="may be sent again with the same id") as unanswered:
            await client.execute(shop(), seconds=0.3)
        await served.resume()
        outcome = await client.execute(shop(), id=unanswered.value.id)
    assert outcome.version == 1
    assert len([e for e in await served.events() if e.causationid == outcome.name]) == 1


async def test_a_command_that_is_too_large_is_refused_before_it_is_sent(served: Served) -> None:
    large = shop().model_copy(update={"description": "x" * 11_000_000})
    async with served.client() as client:
        with pytest.raises(MessageTooLarge, match=r"11,000,\d+ bytes .* takes 1"):
            await client.execute(large)
        assert (await client.execute(shop())).version == 1


async def test_a_command_for_another_organization_is_refused(served: Served) -> None:
    async with served.client() as client:
        with pytest.raises(ValueError, match="'umbrella'"):
            await client.publish(DefineProject(organization="umbrella", name="shop"))


async def test_many_commands_at_once_find_each_its_own_answer(served: Served) -> None:
    names = [f"project-{i}" for i in range(50)]
    async with served.client() as client:
        done = await asyncio.gather(
            *(client.execute(DefineProject(organization="acme", name=name)) for name in names)
        )
    assert [o.subject.rpartition("/")[2] for o in done] == names
