"""Bad resources among many are found, whatever else changes while they are looked for."""

from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways.config_resource import ConfigResource
from tests.support.laws import examples
from tests.xds.models import DeltaModel
from tests.xds.proxies import GATEWAY, Remembering, entry
from xds.server.streams.isolation import trials
from xds.store import ResourceStore
from xds.types import CLUSTER


@dataclass
class Search:
    """A proxy that connects to `count` clusters of which some are bad."""

    count: int
    bad: set[int]
    names_bad: bool
    store: ResourceStore = field(default_factory=ResourceStore)
    seen: Remembering = field(default_factory=Remembering)
    changes: int = 0

    def __post_init__(self) -> None:
        self.store.apply([self.cluster(number, 0) for number in range(self.count)])
        self.proxy = DeltaModel(self.store, "node-1", self.seen, names_bad=self.names_bad)

    def cluster(self, number: int, content: int) -> ConfigResource:
        kind = "bad" if number in self.bad else "good"
        return entry("CDS", f"c{number}", f"{kind} {content}")

    def change_good_ones(self, random: Random, many: int) -> None:
        """Other deployments than the bad ones change while a response is in flight."""
        for number in random.sample(range(self.count), min(many, self.count)):
            if number not in self.bad:
                self.changes += 1
                self.store.apply([self.cluster(number, self.changes)])

    def isolated(self) -> bool:
        return {e.name for e, _ in self.store.quarantined(GATEWAY)} == {f"c{n}" for n in self.bad}

    def served(self) -> bool:
        held = self.proxy.held[CLUSTER]
        wanted = {
            e.name: e.body.decode() for e in self.store.entries(GATEWAY) if not e.body.startswith(b"bad")
        }
        return held == wanted

    def respond(self, random: Random, many: int) -> bool:
        """One response and its answer, with changes in between; False when nothing is sent."""
        while self.proxy.outbox:
            self.proxy.deliver()
        frames = self.proxy.pull()
        self.change_good_ones(random, many)
        for frame in frames:
            self.proxy.take(frame)
        return bool(frames)


@examples(150)
@given(
    st.integers(2, 200).flatmap(
        lambda count: st.tuples(st.just(count), st.sets(st.integers(0, count - 1), min_size=1, max_size=4))
    ),
    st.booleans(),
    st.integers(0, 5),
    st.randoms(use_true_random=False),
)
def test_bad_ones_are_isolated_in_logarithmically_many_responses_while_others_change(
    of: tuple[int, set[int]], names_bad: bool, many: int, random: Random
) -> None:
    count, bad = of
    search = Search(count, bad, names_bad)
    responses = 0
    while not search.isolated():
        responses += 1
        search.respond(random, many)
        assert responses <= 2 * len(bad) * (count.bit_length() + 1) + 1, "the bad ones are not found"
    rest = 0
    while search.respond(random, 0):
        rest += 1
        assert rest <= 2 * len(bad) * (count.bit_length() + 1) + 2, "the good ones do not come"
    assert search.served()


@pytest.mark.parametrize(
    ("same", "changed", "blamed", "expected"),
    [
        ("abcd", "", "", ["cd", "ab"]),
        ("abcd", "e", "", ["cd", "ab"]),
        ("abcd", "", "b", ["b", "acd"]),
        ("abcd", "e", "e", ["abcd"]),
        ("a", "e", "", ["a"]),
        ("", "e", "e", []),
    ],
    ids=["halved", "halved-though-one-changed", "the-named-one-apart", "the-named-one-left", "one", "none"],
)
def test_resources_that_are_tried_after_a_rejection(
    same: str, changed: str, blamed: str, expected: list[str]
) -> None:
    assert trials(same, changed, set(blamed)) == [tuple(names) for names in expected]
