"""Commands that are too large, or whose events, outcomes or snapshots are: nothing stops the partition."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from commands.decision import Rejection, bounded
from schemas.aggregates.api import PublishApi
from schemas.aggregates.organization import DefineOrganization
from schemas.aggregates.project import DefineProject
from schemas.codecs.canonical import canonical
from schemas.envelope import Envelope
from schemas.limits import LONGEST_DETAIL, LONGEST_POINTER, MOST_ERRORS
from schemas.outcome import Complaint, Outcome
from streams.log import MessageTooLarge, Transaction
from tests.commands.shop import publish, spec
from tests.streams.decider_cases import Desk, desk, envelope

ORGANIZATION = envelope(DefineOrganization(organization="acme", name="acme"), "organization")
SHOP = envelope(DefineProject(organization="acme", name="shop"), "shop")


def project(id: str, description: str = "") -> Envelope:
    return envelope(DefineProject(organization="acme", name=id, description=description), id)


def api(**more: Any) -> Envelope:
    """A command that publishes an API with more in its specification than it may have."""
    data = publish().data()
    return replace(envelope(publish(), "wide"), data={**data, "spec": {**data["spec"], **more}})


async def outcomes(at: Desk) -> dict[str, Outcome]:
    records = await at.log.read("outcomes", 0, 0, 1000)
    return {record.envelope.id: Outcome.of(record.envelope.data) for record in records}


async def take(at: Desk, *commands: Envelope) -> dict[str, Outcome]:
    """Hands commands to the decider in one batch; the outcomes by id."""
    await at.log.append("commands", commands)
    records = await at.log.read("commands", 0, at.position, 1000)
    await at.decider.decide(records, records[-1].position)
    at.position = records[-1].position
    assert await at.log.consumed("decider", "commands", 0) == at.position
    return await outcomes(at)


def refusing(at: Desk, monkeypatch: pytest.MonkeyPatch, large: Callable[[Transaction], bool]) -> None:
    """The log takes no transaction that is `large`, as one with a message above its limit."""
    commit = at.log.commit

    async def limited(transaction: Transaction) -> list[list[int]]:
        if large(transaction):
            raise MessageTooLarge("A message of 9,000,000 bytes is too large for the topic events.")
        return await commit(transaction)

    monkeypatch.setattr(at.log, "commit", limited)


def with_an_event_above(limit: int) -> Callable[[Transaction], bool]:
    return lambda transaction: any(
        len(e.to_json()) > limit for a in transaction.appends if a.topic == "events" for e in a.envelopes
    )


async def test_a_rejection_lists_so_many_errors_and_counts_the_rest(tmp_path: Path):
    unknown = {f"k{n}": 0 for n in range(60_000)}
    async with desk(tmp_path) as at:
        found = await take(at, ORGANIZATION, api(**unknown), SHOP)
        (record,) = await at.log.read("outcomes", 0, 1, 1)
    wide = found["wide"]
    assert wide.rule == "invalid-command"
    assert len(wide.errors) == MOST_ERRORS + 1
    assert wide.errors[-1] == Complaint(pointer="", detail="59,900 more errors are not listed")
    assert len(record.envelope.to_json()) < 50_000
    assert found["shop"].accepted


def test_a_rejections_texts_are_cut():
    rejection = Rejection("rule", "m" * 5_000, (Complaint(pointer="/" + "p" * 5_000, detail="d" * 5_000),))
    cut = bounded(rejection)
    (error,) = cut.errors
    lengths = (len(cut.message), len(error.pointer), len(error.detail))
    assert lengths == (LONGEST_DETAIL, LONGEST_POINTER, LONGEST_DETAIL)
    assert bounded(cut) == cut


@pytest.mark.parametrize(
    "field", ["plans", "hosts", "sandbox_hosts", "upstreams", "backends", "operations", "policies"]
)
async def test_a_list_that_is_too_long_is_one_error(tmp_path: Path, field: str):
    async with desk(tmp_path) as at:
        found = await take(at, ORGANIZATION, api(**{field: [None] * 150_000}), SHOP)
    assert [error.pointer for error in found["wide"].errors] == [f"/spec/{field}"]
    assert found["shop"].accepted


async def test_a_command_whose_event_the_log_does_not_take_is_rejected_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = [project(f"p{n}") for n in range(5)]
    after = [project(f"q{n}") for n in range(5)]
    async with desk(tmp_path) as at:
        await take(at, ORGANIZATION)
        refusing(at, monkeypatch, with_an_event_above(1_500))
        found = await take(at, *before, project("large", "x" * 1_500), *after)
        events = [event.subject.rpartition("/")[2] for event in await at.events()]
    assert (found["large"].accepted, found["large"].rule) == (False, "too-large")
    assert "9,000,000 bytes" in found["large"].message
    assert events == ["acme", *(c.id for c in (*before, *after))]
    assert all(found[c.id].accepted for c in (*before, *after))


async def test_an_event_that_was_too_large_leaves_no_state_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with desk(tmp_path) as at:
        await take(at, ORGANIZATION)
        refusing(at, monkeypatch, with_an_event_above(1_500))
        await take(at, project("large", "x" * 1_500))
        assert at.decider.partition_state.state("organizations/acme/projects/large") is None
    async with desk(tmp_path) as again:
        assert len(await again.events()) == 1


async def test_a_snapshot_that_the_log_does_not_take_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    async with desk(tmp_path, snapshot_every=1) as at:
        refusing(at, monkeypatch, lambda transaction: bool(transaction.snapshots))
        found = await take(at, ORGANIZATION, SHOP)
        assert found["organization"].accepted and found["shop"].accepted
        assert "no snapshot is kept" in caplog.text
        await at.decider.stop()


async def test_a_dead_letter_is_parked_without_its_body_when_it_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def large(transaction: Transaction) -> bool:
        return any(e.data["value"] for a in transaction.appends if a.topic == "parked" for e in a.envelopes)

    nameless = replace(project("x", "x" * 1_000), id="not a name")
    async with desk(tmp_path) as at:
        refusing(at, monkeypatch, large)
        found = await take(at, nameless, ORGANIZATION)
        (parked,) = await at.log.read("parked", 0, 0, 10)
    assert (parked.envelope.data["name"], parked.envelope.data["value"]) == ("not a name", "")
    assert parked.envelope.data["size"] > 1_000
    assert found["organization"].accepted


async def test_a_batch_is_written_in_transactions_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sizes: list[int] = []

    def measured(transaction: Transaction) -> bool:
        sizes.append(sum(len(a.envelopes) for a in transaction.appends if a.topic == "events"))
        return False

    monkeypatch.setattr("streams.decider.decider.BATCH_BYTES", 10_000)
    async with desk(tmp_path) as at:
        refusing(at, monkeypatch, measured)
        wanted = [project(f"p{n}", "x" * 1_900) for n in range(20)]
        found = await take(at, ORGANIZATION, *wanted, wanted[0])
        assert len(await at.events()) == 21
    assert all(outcome.accepted for outcome in found.values())
    assert len(sizes) > 3
    assert max(sizes) < 10


async def test_an_event_that_cannot_be_written_is_the_commands_rejection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def failing(value: Any) -> bytes:
        if "unlucky" in str(value):
            raise TypeError("Integer exceeds 64-bit range")
        return canonical(value)

    monkeypatch.setattr("streams.decider.decisions.canonical", failing)
    async with desk(tmp_path) as at:
        found = await take(at, ORGANIZATION, project("unlucky"), SHOP)
        assert at.decider.partition_state.state("organizations/acme/projects/unlucky") is None
        events = await at.events()
    assert found["unlucky"].rule == "cannot-decide"
    assert found["shop"].accepted
    assert [e.previoushash for e in events[1:]] == [e.hash() for e in events[:-1]]


async def test_the_state_of_an_api_with_many_revisions_comes_back_from_its_snapshot(tmp_path: Path):
    hosts = tuple(f"host-{n}.example.com" for n in range(100))
    async with desk(tmp_path) as at:
        await take(at, ORGANIZATION, SHOP)
        for n in range(60):
            url = f"http://127.0.0.1:{n + 1}"
            wide = spec("/orders", url).model_copy(update={"hosts": hosts})
            await take(
                at, envelope(PublishApi(organization="acme", name="orders", project="shop", spec=wide))
            )
        live = at.decider.partition_state.states
        await at.decider.stop()
        _, kept = await at.log.snapshots("decider", 0)
    assert max(len(snapshot.state) for snapshot in kept) < 20_000
    async with desk(tmp_path) as again:
        assert again.decider.partition_state.states == live
