"""LRU cache of encoded responses that several streams send."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from xds.server.wire import Ready

MOST_BYTES = 32 << 20
MOST_FRAMES = 1_000


@dataclass(frozen=True, slots=True)
class Content:
    """A response without its nonce. `variant` of the protocol: `delta` or `state`."""

    gateway: str
    variant: str
    type: str
    resources: tuple[Ready, ...]
    removed: tuple[str, ...] = ()


class Frames:
    """LRU cache of at most MOST_FRAMES responses with at most MOST_BYTES in total."""

    def __init__(self) -> None:
        self._frames: OrderedDict[Content, tuple[int, bytes]] = OrderedDict()
        self._bytes = 0

    def get(
        self,
        content: Content,
        after: int,
        next_nonce: Callable[[], int],
        encode: Callable[[int], bytes],
        *,
        shared: bool,
    ) -> tuple[int, bytes]:
        """Nonce and bytes of a response; the nonce is above `after`, so a stream uses each nonce once.

        A new response is cached if `shared`: other streams may send it, too.
        """
        found = self._frames.get(content)
        if found is not None and found[0] > after:
            self._frames.move_to_end(content)
            return found
        nonce = next_nonce()
        made = nonce, encode(nonce)
        if not shared:
            return made
        if found is not None:
            self._bytes -= len(found[1])
        self._frames[content] = made
        self._frames.move_to_end(content)
        self._bytes += len(made[1])
        while self._frames and (self._bytes > MOST_BYTES or len(self._frames) > MOST_FRAMES):
            _, (_, dropped) = self._frames.popitem(last=False)
            self._bytes -= len(dropped)
        return made

    def forget(self, gateway: str) -> None:
        """Drops the responses of a gateway."""
        for content in [content for content in self._frames if content.gateway == gateway]:
            _, dropped = self._frames.pop(content)
            self._bytes -= len(dropped)
