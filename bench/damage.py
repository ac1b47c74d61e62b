"""Random damage of a data directory, and the result of the next start."""

import asyncio
import random
import tempfile
from collections import Counter
from pathlib import Path

from bench.figure import Figure
from tests.support.damage import FILES, Damage, damaged, emptied, fill, flipped, lost, truncated


def random_damage(moments: random.Random) -> Damage:
    what = moments.choice((lost, emptied, truncated, truncated, *[flipped] * 8))
    return Damage(what, moments.random())


async def _run(count: int, seed: int) -> Counter[str]:
    moments = random.Random(seed)
    verdicts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="signalbox-damage-") as work:
        stopped, killed = Path(work, "stopped"), Path(work, "killed")
        right = await fill(stopped, killed)
        while verdicts.total() < count:
            template = moments.choice((stopped, killed))
            file, damage = moments.choice(FILES), random_damage(moments)
            outcome = await damaged(template, file, damage, right)
            if outcome is None:
                continue
            verdicts[outcome.verdict] += 1
            if outcome.verdict in ("wrong", "traceback"):
                print(f"{template.name} {file} {damage}: {outcome.verdict}: {outcome.sentence}", flush=True)
    return verdicts


def run(count: int = 500, seed: int = 1) -> list[Figure]:
    verdicts = asyncio.run(_run(count, seed))
    return [
        Figure("random damages of one file", verdicts.total(), "times"),
        Figure("starts on the right state", verdicts["right"], ""),
        Figure("starts refused with a sentence", verdicts["refused"], ""),
        Figure("starts with a document that is not served", verdicts["error"], ""),
        Figure("starts on a wrong state", verdicts["wrong"], "", 0),
        Figure("starts that end in a traceback", verdicts["traceback"], "", 0),
    ]
