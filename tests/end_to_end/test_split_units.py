"""Many APIs below one first path segment: their unit is split while requests are on their way."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from signalbox.envoy.admin import admin_socket
from tests.support.calls import Calls, event, specification
from tests.support.connection import Connection
from tests.support.running_signalbox import RunningSignalbox
from xds.translator import GROUPED_ABOVE, SPLIT_ABOVE


class Traffic:
    """Callers that request each of the paths in turn, one on a connection that it keeps."""

    def __init__(self, port: int, paths: Sequence[str]) -> None:
        self.port = port
        self.paths = paths
        self.wrong: list[tuple[str, int]] = []
        self.right = 0
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(kept,)) for kept in (True, True, False)]

    def _ask(self, kept: bool) -> None:
        connection = Connection(self.port)
        while not self._end.is_set():
            for path in self.paths:
                status, headers, _ = connection.ask("GET", path)
                if status == 200:
                    self.right += 1
                else:
                    self.wrong.append((path, status))
                if not kept or headers.get("connection") == "close":
                    connection.close()
                    connection = Connection(self.port)
        connection.close()

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def traffic(port: int, paths: Sequence[str]) -> Iterator[Traffic]:
    callers = Traffic(port, paths)
    callers.begin()
    try:
        yield callers
    finally:
        callers.end()


def publish_and_deploy(calls: Calls, names: Sequence[str], upstream: str) -> list[str]:
    specs = {name: specification(f"/crowd/{name}", upstream) for name in names}
    published = calls.batch([event("api.command.publish", {"name": n, "spec": s}) for n, s in specs.items()])
    assert published.status == 200, published
    return [calls.deploy(name) for name in names]


def test_a_split_leaves_no_request_without_its_route(harness: RunningSignalbox, upstream: str):
    # Given almost as many APIs below a segment as are served together
    harness.up()
    calls = harness.calls()
    names = [f"api-{i}" for i in range(SPLIT_ABOVE - 2)]
    for deployment in publish_and_deploy(calls, names, upstream):
        assert calls.settled(deployment)["state"] == "serving"
    assert parts(harness) == 0
    with traffic(harness.gateway, [f"/crowd/{name}/items" for name in names[4:]]) as callers:
        # When more come, and APIs are changed, moved and stopped
        for deployment in publish_and_deploy(calls, [f"more-{i}" for i in range(8)], upstream):
            assert calls.settled(deployment)["state"] == "serving"
        for number, name in enumerate(names[:12]):
            context = f"/crowd/moved/{name}" if number < 2 else f"/crowd/{name}"
            calls.publish(name, specification(context, upstream, display_name="Changed"))
            assert calls.settled(calls.deploy(name))["state"] == "serving"
            harness.answered(f"{context}/items", f"{name}@2")
        stopped = calls.deploy(names[2])
        assert calls.undeploy(stopped).status == 200
        harness.answered(f"/crowd/{names[2]}/items", status=404)
        harness.answered(f"/crowd/{names[0]}/items", status=404)
        # and so many come that their parts are in groups
        crowd = publish_and_deploy(calls, [f"next-{i}" for i in range(GROUPED_ABOVE)], upstream)
        for deployment in crowd:
            assert calls.settled(deployment)["state"] == "serving"
        assert groups(harness) > 1
        # and Signalbox is killed and comes back
        harness.down(signal.SIGKILL)
        harness.up()
        again = harness.calls()
        again.publish(names[5], specification(f"/crowd/{names[5]}", upstream, display_name="Again"))
        assert again.settled(again.deploy(names[5]))["state"] == "serving"
        harness.answered(f"/crowd/{names[5]}/items", f"{names[5]}@3")
        for deployment in publish_and_deploy(again, ["last"], upstream):
            assert again.settled(deployment)["state"] == "serving"
        # and they go
        assert groups(harness) > 1
        for deployment in crowd:
            assert again.undeploy(deployment).status == 200
        for number in range(GROUPED_ABOVE):
            harness.answered(f"/crowd/next-{number}/items", status=404)
    # Then every request was answered by its API
    assert parts(harness) == SPLIT_ABOVE - 2 + 8 - 1 + 1
    assert callers.right > len(names)
    assert callers.wrong == []


def parts(harness: RunningSignalbox) -> int:
    """How many scopes of Envoy are parts of a unit."""
    return scopes(harness).count(b"/scopes/crowd|") - groups(harness)


def groups(harness: RunningSignalbox) -> int:
    """How many are groups of them."""
    return scopes(harness).count(b"/scopes/crowd||")


def scopes(harness: RunningSignalbox) -> bytes:
    admin = Connection(admin_socket(harness.envoy_directory))
    _, _, body = admin.ask("GET", "/config_dump?resource=dynamic_scoped_route_configs")
    admin.close()
    return body
