"""For any parts: their groups take each request to its part, also while they become others."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from gateways.translator import Dispatching, Part
from tests.support.laws import examples
from xds.part_groups import PartGroups

UNIT = "api"

texts = st.lists(st.sampled_from(("a", "ab", "b", "v1")), max_size=3)
contexts = texts.map(lambda segments: "/" + "/".join(["api", *segments]))
names = texts.map(lambda labels: ".".join([*labels, "test"]))
patterns = st.one_of(names, names.map("*.{}".format), st.just("*"))


def part_of(api: str, context: str, hosts: list[str], sandbox: list[str]) -> Part:
    return Part(f"{UNIT}|{api}|{context}{hosts}{sandbox}".replace("/", "."), context, (*hosts,), (*sandbox,))


placed = st.tuples(
    st.sampled_from([f"api-{i}" for i in range(12)]),
    st.one_of(
        st.none(),
        st.tuples(
            contexts,
            st.lists(patterns, min_size=1, max_size=3, unique=True),
            st.lists(patterns, max_size=1),
        ),
    ),
).map(lambda given: (given[0], part_of(given[0], *given[1]) if given[1] else None))
Placed = list[tuple[str, Part | None]]
asked = st.lists(st.tuples(names, contexts.map(lambda path: f"{path}/x")), min_size=1, max_size=20)


def place(groups: PartGroups, parts: dict[str, Part], changes: Placed) -> None:
    for api, part in changes:
        groups.place(api, part)
        parts.pop(api, None)
        if part is not None:
            parts[api] = part


def of_all(groups: PartGroups) -> dict[str, Dispatching]:
    """The unit and its groups, by name."""
    unit = groups.of(UNIT)
    return {UNIT: unit, **{group.name: groups.of(group.name) for group in unit.groups}}


def has(pattern: str, host: str) -> bool:
    return host == pattern or (
        pattern.startswith("*") and host.endswith(pattern[1:]) and len(host) >= len(pattern)
    )


def fitting(dispatching: Dispatching, host: str, path: str) -> tuple[Part | None, str]:
    """The part of the longest context, or the first group that fits."""
    parts = [
        (len(part.context), max(fits), part.name, part)
        for part in dispatching.parts
        if f"{path}/".startswith(f"{part.context}/")
        and (fits := [len(p) + (p == host) for p in (*part.hosts, *part.sandbox_hosts) if has(p, host)])
    ]
    groups = [
        group.name
        for group in dispatching.groups
        if path.startswith(group.path) and any(has(pattern, host) for pattern in group.hosts)
    ]
    return max(parts)[3] if parts else None, groups[0] if groups else ""


def answer(known: Mapping[str, Dispatching], host: str, path: str) -> Part | None:
    part, group = fitting(known[UNIT], host, path)
    return fitting(known[group], host, path)[0] if group else part


@given(st.lists(st.lists(placed, max_size=6), min_size=1, max_size=6), st.integers(1, 4), asked)
@examples(500)
def test_groups_follow_from_the_parts_and_changes_are_told(
    steps: list[Placed], most: int, requests: list[tuple[str, str]]
):
    groups, parts = PartGroups(UNIT, most), dict[str, Part]()
    before = {UNIT: Dispatching()}
    for changes in steps:
        place(groups, parts, changes)
        changed = groups.changed()
        now = of_all(groups)
        assert {n for n in now.keys() | before.keys() if now.get(n) != before.get(n)} <= changed
        assert all(groups.of(name) == Dispatching() for name in before.keys() - now.keys())
        for host, path in requests:
            best, _ = fitting(Dispatching(tuple(parts.values())), host, path)
            assert answer(now, host, path) == best
        before = now


@given(st.lists(placed, max_size=12), st.lists(placed, max_size=6), st.integers(1, 4), asked)
@examples(500)
def test_while_groups_become_others_every_request_gets_its_part(
    first: Placed, then: Placed, most: int, requests: list[tuple[str, str]]
):
    groups, parts = PartGroups(UNIT, most), dict[str, Part]()
    place(groups, parts, first)
    groups.changed()
    before = of_all(groups)
    place(groups, parts, then)
    groups.changed()
    now = of_all(groups)
    for host, path in requests:
        if (expected := answer(before, host, path)) == answer(now, host, path):
            for unit in (before[UNIT], now[UNIT]):
                # A proxy has either version of a group, if there are two
                for known in ({**now, **before}, {**before, **now}):
                    assert answer({**known, UNIT: unit}, host, path) == expected


@given(st.lists(placed, min_size=1, max_size=12), st.lists(placed, max_size=6), st.integers(1, 4))
@examples(300)
def test_groups_are_the_same_after_a_restart(first: Placed, then: Placed, most: int):
    groups, parts = PartGroups(UNIT, most), dict[str, Part]()
    for changes in (first, then):
        place(groups, parts, changes)
        groups.changed()
    again = PartGroups(UNIT, most)
    place(again, {}, [*parts.items()])
    again.changed()
    if groups.by_host == again.by_host:
        assert of_all(again) == of_all(groups)


def test_most_new_parts_change_one_group_of_many():
    for context, host in (("/api/{}", "*"), ("/api", "{}.test")):
        groups = PartGroups(UNIT, 128)
        for i in range(2_000):
            api = f"api-{i}"
            groups.place(api, part_of(api, context.format(api), [host.format(api)], []))
        assert UNIT in groups.changed()
        assert 15 < len(groups.of(UNIT).groups) < 200
        assert all(len(groups.of(group.name).parts) <= 128 for group in groups.of(UNIT).groups)
        groups.place("api-2000", part_of("n", context.format("api-2000"), [host.format("api-2000")], []))
        (changed,) = groups.changed()
        assert changed != UNIT
