"""The files that are named for the distribution exist."""

from tests.support.distribution import LONGEST, TESTS, TOGETHER


def test_every_named_file_exists():
    named = {*(TESTS / f"{name}.py" for name in LONGEST), *(TESTS.parent / file for file in TOGETHER)}
    assert [str(file) for file in named if not file.exists()] == []
