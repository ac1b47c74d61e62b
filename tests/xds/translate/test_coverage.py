"""Law: the methods found in the tree are those of all operations that cover the path."""

from hypothesis import given
from hypothesis import strategies as st

from gateways.model import Segment
from xds.translate.coverage import Coverage
from xds.translate.paths import covers

_segment = st.one_of(
    st.builds(Segment, st.just("literal"), st.sampled_from(["a", "b", ""])),
    st.builds(Segment, st.just("parameter"), st.sampled_from(["id", "name"])),
)
_path = st.tuples(st.lists(_segment, max_size=4), st.sampled_from([(), (Segment("tail"),)])).map(
    lambda parts: (*parts[0], *parts[1])
)


@given(st.lists(st.tuples(_path, st.sampled_from(["GET", "POST", "PUT"])), max_size=12), _path)
def test_the_methods_of_a_path_are_those_of_all_operations_that_cover_it(
    operations: list[tuple[tuple[Segment, ...], str]], path: tuple[Segment, ...]
) -> None:
    expected = {method for wide, method in operations if covers(wide, path)}
    assert Coverage(operations).methods(path) == expected
