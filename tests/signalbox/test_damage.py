"""Every file of a data directory, damaged in every way: the next start shows the right state, or refuses."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.damage import DAMAGES, FILES, Damage, Outcome, State, damaged, fill

pytestmark = pytest.mark.chaos


@dataclass(frozen=True)
class Templates:
    directories: dict[str, Path]
    right: State


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """What a stop in order, and what a kill leaves of the same history."""
    work = tmp_path_factory.mktemp("damage")
    directories = {"stopped": work / "stopped", "killed": work / "killed"}
    right = asyncio.run(fill(directories["stopped"], directories["killed"]))
    return Templates(directories, right)


def test_the_compared_rows_exist(templates: Templates):
    kinds = {key: bool(value) for key, value in templates.right.items()}
    assert all(kinds.values()), kinds
    assert len(templates.right["served"]) > 8


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("left", ["stopped", "killed"])
def test_a_damaged_file_gives_the_right_state_or_a_refusal(templates: Templates, left: str, file: str):
    async def outcomes() -> dict[Damage, Outcome | None]:
        template = templates.directories[left]
        return {damage: await damaged(template, file, damage, templates.right) for damage in DAMAGES}

    wrong = {
        str(damage): outcome
        for damage, outcome in asyncio.run(outcomes()).items()
        if outcome is not None and outcome.verdict not in ("right", "refused", "error")
    }
    assert wrong == {}
