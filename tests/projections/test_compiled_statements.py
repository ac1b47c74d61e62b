"""The statements of the projector are compiled once: a change would otherwise wait for that each time."""

from typing import Any

import pytest
from sqlalchemy.sql.compiler import SQLCompiler

from schemas.aggregates.organization import OrganizationDefined
from tests.projections.conftest import Happen
from tests.projections.events import delivery, gateway, outcome, published, started, superseded


def test_a_change_like_the_one_before_compiles_nothing(
    happen: Happen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(name: str, before: str) -> None:
        happen(started(name, api="orders"), superseded(before, name))
        happen(outcome(f"c-{name}"), topic="outcomes")
        for fact in ("published", "acknowledged", "serving"):
            happen(delivery(name, fact, 1.0), topic="status")

    happen(OrganizationDefined(organization="acme", name="acme"), gateway("local"), published())
    happen(started("d0", api="orders"))
    change("d1", "d0")
    change("d2", "d1")
    compiled = 0
    make = SQLCompiler.__init__

    def count(self: SQLCompiler, *args: Any, **options: Any) -> None:
        nonlocal compiled
        compiled += 1
        make(self, *args, **options)

    monkeypatch.setattr(SQLCompiler, "__init__", count)
    change("d3", "d2")

    assert compiled == 0
