"""Snapshots of a decider's state: transactions of a bounded size, and a fingerprint of the code."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from schemas.aggregates.api import DeleteApi
from schemas.aggregates.project import DefineProject
from streams.decider import snapshots
from streams.log import StateSnapshot, Transaction
from tests.commands.shop import ORG, publish, spec
from tests.streams.decider_cases import desk, envelope
from tests.streams.test_decider import DEFAULT_RESOURCES


async def test_a_snapshot_of_many_subjects_is_kept_over_several_transactions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # given more subjects without a snapshot than one transaction takes, as after a migration
    monkeypatch.setattr("streams.decider.decider.SUBJECTS", 10)
    async with desk(tmp_path) as at:
        projects = [DefineProject(organization=ORG, name=f"p{n}") for n in range(35)]
        await at.decide(*(envelope(c) for c in (*DEFAULT_RESOURCES, *projects)))
    async with desk(tmp_path, snapshot_every=1) as at:
        sizes: list[int] = []
        commit = at.log.commit

        async def counted(transaction: Transaction) -> list[list[int]]:
            sizes.append(len(transaction.snapshots))
            return await commit(transaction)

        monkeypatch.setattr(at.log, "commit", counted)
        # when it goes on deciding
        for number in range(6):
            await at.decide(envelope(DefineProject(organization=ORG, name="p1", display_name=str(number))))
        # then no transaction holds more, and after some of them all are kept
        assert max(sizes) == 1 + 10
        position, kept = await at.log.snapshots("decider", 0)
        assert len(kept) == 1 + len(at.decider.partition_state.versions)
        assert position == at.decider.head.position


@pytest.mark.parametrize("transactions", range(6))
async def test_a_snapshot_that_is_not_kept_to_its_end_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transactions: int
):
    monkeypatch.setattr("streams.decider.decider.SUBJECTS", 5)
    async with desk(tmp_path, snapshot_every=1) as at:
        await at.decide(*(envelope(c) for c in DEFAULT_RESOURCES), envelope(publish()))
        await at.decider.stop()
        before = at.decider.head.position
        projects = [DefineProject(organization=ORG, name=f"p{n}") for n in range(20)]
        at.decider.snapshot_every = 1_000
        await at.decide(
            *(envelope(c) for c in projects), envelope(DeleteApi(organization=ORG, name="orders"))
        )
        # given a decider that is killed while it keeps a snapshot
        at.decider.snapshot_every = 1
        for number in range(transactions):
            await at.decide(envelope(publish(of=spec(f"/again/{number}"))))
        live, head = at.decider.partition_state, at.decider.head
        position, _ = await at.log.snapshots("decider", 0)
        assert (position > before) == (transactions == 5)
    # then the next one is where it was
    async with desk(tmp_path) as again:
        assert (again.decider.partition_state.states, again.decider.head) == (live.states, head)
        assert again.decider.partition_state.versions == live.versions
        await again.decider.stop()
        assert (await again.log.snapshots("decider", 0))[0] == head.position


def with_other_shape(snapshot: StateSnapshot) -> StateSnapshot:
    """As code with another fingerprint writes it."""
    content = orjson.loads(snapshot.state) | {"fingerprint": "0" * 16}
    if content.get("state"):
        content["state"] = {"content": "of another shape"}
    return replace(snapshot, state=orjson.dumps(content))


def without_fingerprint(snapshot: StateSnapshot) -> StateSnapshot:
    """As release 0.1.0 wrote it, and its rules gave another state."""
    content = orjson.loads(with_other_shape(snapshot).state) | {"form": 3}
    del content["fingerprint"]
    return replace(snapshot, state=orjson.dumps(content))


def unreadable(snapshot: StateSnapshot) -> StateSnapshot:
    return snapshot if snapshot.subject == "head" else replace(snapshot, state=b'{"version": 1')


@pytest.mark.parametrize("change", [with_other_shape, without_fingerprint, unreadable])
async def test_snapshots_that_this_code_did_not_write_are_replaced_by_a_replay(
    tmp_path: Path, change: Callable[[StateSnapshot], StateSnapshot]
):
    # given snapshots of other code
    async with desk(tmp_path) as at:
        await at.decide(*(envelope(c) for c in DEFAULT_RESOURCES), envelope(publish()))
        await at.decider.stop()
        live, head = at.decider.partition_state, at.decider.head
        _, kept = await at.log.snapshots("decider", 0)
        await at.log.commit(Transaction(snapshots=[change(snapshot) for snapshot in kept]))
    # when a decider starts
    async with desk(tmp_path) as again:
        # then its state follows from the events
        assert (again.decider.partition_state, again.decider.head) == (live, head)
        # and its own snapshots take their place
        await again.decider.stop()
        assert {s.subject: s.state for s in (await again.log.snapshots("decider", 0))[1]} == {
            s.subject: s.state for s in kept
        }


async def test_snapshots_of_other_code_beside_the_first_new_ones_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # given a decider that was killed after the first of several transactions that replace snapshots
    monkeypatch.setattr("streams.decider.decider.SUBJECTS", 2)
    async with desk(tmp_path) as at:
        await at.decide(*(envelope(c) for c in DEFAULT_RESOURCES), envelope(publish()))
        await at.decider.stop()
        _, kept = await at.log.snapshots("decider", 0)
        await at.log.commit(Transaction(snapshots=[with_other_shape(snapshot) for snapshot in kept]))
    async with desk(tmp_path, snapshot_every=1) as at:
        await at.decide(envelope(publish(of=spec("/again"))))
        live = at.decider.partition_state
    # when the next one starts, then its state follows from the events
    async with desk(tmp_path) as again:
        assert again.decider.partition_state == live


def test_the_fingerprint_depends_on_the_rules_and_on_the_shape_of_the_state():
    before = snapshots.fingerprint_of(b"rules", {"api": {"type": "object"}})
    assert before == snapshots.fingerprint_of(b"rules", {"api": {"type": "object"}})
    assert before != snapshots.fingerprint_of(b"other rules", {"api": {"type": "object"}})
    assert before != snapshots.fingerprint_of(b"rules", {"api": {"type": "array"}})
