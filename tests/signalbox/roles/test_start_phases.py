"""The order in which the roles of a process start and stop."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from signalbox import service_group
from signalbox.roles import Role, runner
from signalbox.roles.embedded_runtime import EmbeddedRuntime
from signalbox.roles.runner import RoleRunner
from signalbox.roles.runtime import Runtime
from signalbox.service_group import ServiceGroup
from signalbox.settings import Settings

ROLES = {"proxies": Role("proxies", "", first=True), "one": Role("one", ""), "two": Role("two", "")}


class Opened(EmbeddedRuntime):
    """A runtime without files."""

    async def open(self) -> None:
        return

    async def all_started(self) -> None:
        return


class Roles:
    """Roles that record what happens to them in `steps`. A role waits in its start for an event in `held`,
    and raises an error in `failing`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[str] = []
        self.held: dict[str, asyncio.Event] = {}
        self.failing: dict[str, Exception] = {}
        self.begun = {name: asyncio.Event() for name in ROLES}
        monkeypatch.setattr(runner, "ROLES", ROLES)
        monkeypatch.setattr(runner, "runtime_of", self._runtime)
        for name in ROLES:
            module = SimpleNamespace(start=self._start_of(name))
            monkeypatch.setitem(sys.modules, f"signalbox.roles.{name}", module)

    def _runtime(self, settings: Settings, group: ServiceGroup, names: Sequence[str]) -> Runtime:
        return Opened(settings, group, names)

    def _start_of(self, name: str):
        async def start(runtime: Runtime, group: ServiceGroup) -> None:
            self.steps.append(f"{name} begins")
            self.begun[name].set()
            if name in self.held:
                await self.held[name].wait()
            if name in self.failing:
                raise self.failing[name]
            group.callback(self.steps.append, f"{name} stops")

            async def finish() -> None:
                self.steps.append(f"{name} finishes")

            group.later(finish)

        return start


@pytest.fixture
async def roles(monkeypatch: pytest.MonkeyPatch) -> Roles:
    return Roles(monkeypatch)


async def test_roles_for_proxies_begin_first_and_roles_stop_in_reverse_order(roles: Roles, tmp_path: Path):
    roles.held["proxies"] = asyncio.Event()
    async with RoleRunner(Settings(data=tmp_path), list(ROLES)) as running:
        await roles.begun["proxies"].wait()
        assert running.runtime.not_ready_reason() == "starting proxies, one, two"
        roles.held["proxies"].set()
        await running.started()
        assert running.runtime.not_ready_reason() is None
        assert roles.steps[0] == "proxies begins"
        # What needs other roles begins when these have begun.
        before = roles.steps[: roles.steps.index("proxies finishes")]
        assert {"one begins", "two begins"} <= set(before)
        assert len(roles.steps) == 6
    assert roles.steps[6:] == ["two stops", "one stops", "proxies stops"]


async def test_no_role_waits_for_one_whose_service_is_unavailable(roles: Roles, tmp_path: Path):
    roles.held["proxies"] = asyncio.Event()
    async with RoleRunner(Settings(data=tmp_path), list(ROLES)) as running:
        await roles.begun["proxies"].wait()
        assert roles.steps == ["proxies begins"]
        running.runtime.waits.set()
        await roles.begun["two"].wait()
        roles.held["proxies"].set()
        await running.started()


async def test_a_failed_start_is_raised_and_stops_the_other_roles(roles: Roles, tmp_path: Path):
    roles.failing["two"] = ValueError("no port")
    async with RoleRunner(Settings(data=tmp_path), list(ROLES)) as running:
        with pytest.raises(ValueError, match="no port"):
            await running.started()
        assert isinstance(running.failed.exception(), ValueError)
        assert running.runtime.not_ready_reason() == "a task has ended; the log has the reason"
    assert roles.steps[-2:] == ["one stops", "proxies stops"]


async def test_a_stop_during_the_start_begins_no_other_role(roles: Roles, tmp_path: Path):
    roles.held["proxies"] = asyncio.Event()
    async with RoleRunner(Settings(data=tmp_path), list(ROLES)):
        await roles.begun["proxies"].wait()
    assert roles.steps == ["proxies begins"]


async def test_a_service_that_does_not_stop_is_abandoned_and_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    held, steps = asyncio.Event(), list[str]()

    class Stuck:
        async def close(self) -> None:
            await held.wait()

    async def never() -> None:
        try:
            await held.wait()
        finally:
            await held.wait()

    monkeypatch.setattr(service_group, "LEAST_SECONDS", 0.01)
    group = ServiceGroup()
    group.callback(steps.append, "first")
    group.closed_at_stop(Stuck())
    group.run("the consumer", never())
    await asyncio.sleep(0)
    group.first_at_stop(Stuck().close)
    await group.stop(asyncio.get_running_loop().time())
    assert steps == ["first"]
    abandoned = [record.getMessage().rpartition(": ")[2].rpartition(".")[2] for record in caplog.records]
    assert abandoned == ["close", "the consumer", "close"]
