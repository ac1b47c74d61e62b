"""`make bench`: runs benchmarks (by name, else all), writes `bench/results/<name>.json`, prints the table."""

import argparse
import importlib
import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.figure import Figure, machine

EMBEDDED = (
    "translate",
    "commands",
    "rebuild",
    "change",
    "large_api",
    "folder",
    "fanout",
    "first_sync",
    "start",
)
KAFKA = ("kafka_deciding", "kafka_projecting", "kafka_change")
BENCHES = (*EMBEDDED, *KAFKA)
LONG = ("large", "crash", "kafka_crash", "damage", "odd_requests")
"""Only run by name: they take a quarter of an hour or more each."""
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join((*BENCHES, *LONG))}")
    chosen = parser.parse_args().names or BENCHES
    if unknown := set(chosen) - {*BENCHES, *LONG}:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join((*BENCHES, *LONG))}")
    RESULTS.mkdir(exist_ok=True)
    console = Console()
    for name in chosen:
        facts = machine()
        began = time.perf_counter()
        figures: list[Figure] = importlib.import_module(_module(name)).run()
        seconds = round(time.perf_counter() - began, 1)
        result = [{**figure.row(), "machine": facts} for figure in figures]
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
        console.print(table(name, seconds, figures))
        before = committed(name)
        for figure in figures:
            if figure.name in before and (worse := figure.regression(before[figure.name])):
                console.print(f"[bold red]regression[/] {worse}")


def committed(name: str) -> Mapping[str, float]:
    """The values of the committed result by their names; empty where there is none, or no repository."""
    shown = subprocess.run(
        ["git", "show", f"HEAD:./{name}.json"], cwd=RESULTS, capture_output=True, check=False
    )
    return {row["name"]: row["value"] for row in json.loads(shown.stdout or "[]")}


def _module(name: str) -> str:
    engine, _, rest = name.partition("_")
    return f"bench.kafka.{rest}" if engine == "kafka" else f"bench.{name}"


def table(name: str, seconds: float, figures: list[Figure]) -> Table:
    made = Table(title=f"{name} ({seconds} s)", title_justify="left")
    made.add_column("what")
    made.add_column("measured", justify="right")
    made.add_column("target", justify="right")
    made.add_column("holds")
    for figure in figures:
        bound = (
            "" if figure.target is None else f"{'≤' if figure.most else '≥'} {figure.target:,g} {figure.unit}"
        )
        verdict = {True: "yes", False: "no", None: ""}[figure.holds]
        made.add_row(figure.name, f"{figure.value:,.3g} {figure.unit}", bound, verdict)
    return made


if __name__ == "__main__":
    main()
