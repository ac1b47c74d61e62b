"""Snapshots of a decider's state are kept in transactions of a bounded size."""

from pathlib import Path

import pytest

from schemas.api import DeleteApi
from schemas.project import DefineProject
from streams.log import Transaction
from tests.commands.shop import ORG, publish, spec
from tests.streams.decider_cases import desk, envelope
from tests.streams.test_decider import HOUSE


async def test_a_snapshot_of_many_subjects_is_kept_over_several_transactions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # given more subjects without a snapshot than one transaction takes, as after a migration
    monkeypatch.setattr("streams.decider.SUBJECTS", 10)
    async with desk(tmp_path) as at:
        projects = [DefineProject(organization=ORG, name=f"p{n}") for n in range(35)]
        await at.decide(*(envelope(c) for c in (*HOUSE, *projects)))
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
    monkeypatch.setattr("streams.decider.SUBJECTS", 5)
    async with desk(tmp_path, snapshot_every=1) as at:
        await at.decide(*(envelope(c) for c in HOUSE), envelope(publish()))
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
