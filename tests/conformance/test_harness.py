"""The public conformance suite ii/xds-test-harness against the discovery server, in all four variants.

It comes from outside: SIGNALBOX_XDS_TEST_HARNESS names a directory with its program `xds-test-harness` and
its folder `features`. Most of its steps wait for fixed times, so the suite runs as one process per variant
and type, all at once.
"""

import asyncio
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.adapter import served
from tests.support.toolchains import run

VARIANTS = ("sotw non-aggregated", "sotw aggregated", "incremental non-aggregated", "incremental aggregated")
TYPES = ("CDS", "LDS", "RDS", "EDS")
SUITE_SECONDS = 400.0

RACING = ("Client can incrementally unsubscribe from resources", "Client can unsubscribe from all resources")
"""The suite unsubscribes on one connection and changes the resource over another, and awaits nothing in
between: on a loaded machine the change overtakes the unsubscription, and is rightly sent. In
`test_scenarios` the change comes when the unsubscription has been taken in."""
RETRIES = 2


@dataclass(frozen=True)
class Result:
    passed: int
    failures: tuple[str, ...]


@pytest.fixture
def suite() -> Path:
    named = os.environ.get("SIGNALBOX_XDS_TEST_HARNESS")
    if not named:
        pytest.skip("SIGNALBOX_XDS_TEST_HARNESS names no build of ii/xds-test-harness")
    return Path(named)


async def test_the_public_suite_passes_in_every_variant(suite: Path, tmp_path: Path) -> None:
    parts = [(variant, type) for variant in VARIANTS for type in TYPES]
    results = await asyncio.gather(*(part(suite, tmp_path, *each) for each in parts))
    failures = [failure for result in results for failure in result.failures]
    assert not failures, "\n".join(failures)
    for variant in VARIANTS:
        count = sum(result.passed for each, result in zip(parts, results, strict=True) if each[0] == variant)
        assert count > 0, f"no scenario of {variant} ran"


async def part(suite: Path, directory: Path, variant: str, type: str) -> Result:
    """Runs the scenarios of one variant whose examples begin with one type."""
    here = directory / f"{variant}-{type}".replace(" ", "-")
    (here / "features").mkdir(parents=True)
    for feature in (suite / "features").glob("*.feature"):
        lines = feature.read_text().splitlines(keepends=True)
        kept = [line for line in lines if not re.match(r'\s*\| "(?!' + type + ")", line)]
        (here / "features" / feature.name).write_text("".join(kept))
    result = await _run(suite, here, variant)
    for _ in range(RETRIES):
        if not result.failures or not all(map(races, result.failures)):
            break
        result = await _run(suite, here, variant)
    return result


def races(failure: str) -> bool:
    """Whether a failed scenario is one of those that can fail though the server is right."""
    return any(scenario in failure for scenario in RACING)


async def _run(suite: Path, here: Path, variant: str) -> Result:
    (here / "results.json").unlink(missing_ok=True)
    async with served() as at:
        addresses = ["-T", f":{at.target}", "-A", f":{at.adapter}"]
        ran = await run(
            [suite / "xds-test-harness", "-V", variant, *addresses], cwd=here, seconds=SUITE_SECONDS
        )
    assert (here / "results.json").exists(), ran.err
    results: dict[str, Any] = json.loads((here / "results.json").read_text())
    failures = tuple(
        f"{here.name}: {failed['name']}: {failed['failedStep']}: {failed['error']}"
        for each in results["ResultsByVariant"]
        for failed in each["failedScenarios"] or ()
    )
    assert bool(failures) == bool(results["Failed"]), results
    assert not (results["Skipped"] or results["Undefined"] or results["Pending"]) or failures, results
    return Result(results["Passed"], failures)
