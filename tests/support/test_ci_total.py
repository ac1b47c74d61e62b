"""The closing line of `.ci/run` counts the tests of every pytest call."""

import subprocess
from pathlib import Path

import pytest

TOTAL = Path(__file__).parents[2] / ".ci" / "total"


def total(log: str, directory: Path) -> subprocess.CompletedProcess[str]:
    (directory / "log").write_text(log)
    return subprocess.run([TOTAL, directory / "log"], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("9 passed in 8.21s\n", "9 passed in 8.21s (0:00:08)\n"),
        (
            "== 1 failed, 90 passed, 2 skipped, 3 deselected in 61.50s (0:01:01) ==\nmore output\n"
            "5 passed, 1 skipped, 93 deselected in 0.50s\n",
            "1 failed, 95 passed, 3 skipped in 62.00s (0:01:02)\n",
        ),
        ("2 errors in 0.10s\n1 passed, 1 error in 0.10s\n", "1 passed, 3 errors in 0.20s (0:00:00)\n"),
        ("test_it took 3 rounds in 5.0s\n1 passed in 1.00s\n", "1 passed in 1.00s (0:00:01)\n"),
    ],
)
def test_the_counts_of_all_calls_are_added_up(log: str, line: str, tmp_path: Path) -> None:
    ran = total(log, tmp_path)
    assert (ran.stdout, ran.returncode) == (line, 0)


def test_a_log_without_a_closing_line_is_an_error(tmp_path: Path) -> None:
    assert total("make: *** [lint] Error 1\n", tmp_path).returncode == 1
