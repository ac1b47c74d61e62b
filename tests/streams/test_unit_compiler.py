"""Where APIs are compiled: large ones beside the event loop, which goes on answering others."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateways.config_resource import ConfigResource
from gateways.model import DeployedApi, GatewaySettings, Unsupported
from streams.gateway_sync.unit_compiler import MOST_INLINE
from tests.commands.shop import deploy, publish, spec
from tests.streams.document_translator import Wrapped
from tests.streams.test_gateway_sync import DEFAULT_RESOURCES, harness


@dataclass
class Recording(Wrapped):
    """A translator that remembers on which threads it worked."""

    threads: set[threading.Thread] = field(default_factory=set[threading.Thread])

    def check(self, api: DeployedApi) -> tuple[Unsupported, ...]:
        self.threads.add(threading.current_thread())
        return super().check(api)

    def translate(self, settings: GatewaySettings, api: DeployedApi) -> Any:
        self.threads.add(threading.current_thread())
        return super().translate(settings, api)

    def unit_entries(
        self, settings: GatewaySettings, unit: str, apis: Sequence[Any], position: int
    ) -> tuple[ConfigResource, ...]:
        self.threads.add(threading.current_thread())
        return super().unit_entries(settings, unit, apis, position)


def operations(number: int) -> list[dict[str, Any]]:
    return [{"method": "GET", "path": f"/items-{n}"} for n in range(number)]


@pytest.mark.parametrize(("number", "inline"), [(MOST_INLINE, True), (MOST_INLINE + 1, False)])
async def test_an_api_of_many_operations_is_compiled_beside_the_event_loop(
    tmp_path: Path, number: int, inline: bool
):
    async with harness(tmp_path) as at:
        await at.do(*DEFAULT_RESOURCES)
        recording = Recording(at.sync.translators["envoy"])
        at.sync.compiler.translators = {"envoy": recording}
        await at.do(publish(of=spec(operations=operations(number))), deploy(), ids=("p", "d1"))
        assert at.facts() == [("d1", "published")]
        own = threading.current_thread()
        assert (recording.threads == {own}) if inline else (own not in recording.threads)
