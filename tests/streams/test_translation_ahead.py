"""Deployments that another process translates have the same entries as those that gateway sync translates."""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

from gateways.config_resource import ConfigResource
from schemas.aggregates.api import ApiSpec
from schemas.message import Command
from streams.compute_process import Compute, NoProcess
from streams.gateway_sync.translation_ahead import MANY
from tests.commands.shop import deploy, publish, spec
from tests.streams.test_gateway_sync import DEFAULT_RESOURCES, EAST, harness

T = TypeVar("T")
Args = TypeVarTuple("Args")


class Recorded:
    """Computes at once, as if arguments and result went to another process and back."""

    def __init__(self) -> None:
        self.results: list[Any] = []

    async def run(self, function: Callable[[*Args], T], *args: *Args) -> T:
        there: tuple[*Args] = pickle.loads(pickle.dumps(args))
        result = pickle.loads(pickle.dumps(function(*there)))
        self.results += result
        return result


def apis(name: Callable[[int], str]) -> Mapping[str, ApiSpec]:
    """One with an upstream that gateways may not reach, and one with a policy that they do not have."""
    specs = {f"api-{i}": spec(name(i)) for i in range(MANY)}
    specs["denied"] = spec("/denied", url="http://169.254.169.254")
    specs["unsupported"] = spec("/unsupported", policies=[{"name": "no-such-policy"}])
    return specs


async def deployed(
    directory: Path, specs: Mapping[str, ApiSpec], compute: Compute
) -> tuple[Mapping[Any, ConfigResource], list[tuple[str, str, str]]]:
    """The entries in force, and the reports, after all APIs were deployed together."""
    commands: list[Command] = [*(publish(name, of) for name, of in specs.items()), *map(deploy, specs)]
    async with harness(directory, compute=compute) as at:
        await at.do(*DEFAULT_RESOURCES)
        await at.do(*commands, ids=tuple(f"id-{i}" for i in range(len(commands))))
        reports = sorted((r.deployment, r.fact, r.reason) for r in at.reports)
        return {entry.key: entry for entry in at.store.entries(EAST)}, reports


async def test_apis_in_units_of_their_own(tmp_path: Path) -> None:
    specs, compute = apis("/api-{}".format), Recorded()
    ahead = await deployed(tmp_path / "ahead", specs, compute)
    assert ahead == await deployed(tmp_path / "alone", specs, NoProcess())
    assert sum(bool(each.made) for each in compute.results) == MANY
    assert [fact for _, fact, reason in ahead[1] if reason] == ["refused", "refused"]


async def test_apis_that_share_a_unit_are_only_checked_ahead(tmp_path: Path) -> None:
    specs, compute = apis("/shared/{}".format), Recorded()
    ahead = await deployed(tmp_path / "ahead", specs, compute)
    assert ahead == await deployed(tmp_path / "alone", specs, NoProcess())
    assert len(compute.results) == len(specs)
    assert not any(each.made for each in compute.results)


async def test_few_deployments_are_translated_by_gateway_sync(tmp_path: Path) -> None:
    specs, compute = {f"api-{i}": spec(f"/api-{i}") for i in range(MANY - 1)}, Recorded()
    await deployed(tmp_path, specs, compute)
    assert compute.results == []
