"""Law: what `check` finds nothing against, Envoy takes. A refusal would cost the whole group."""

from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from gateways.model import (
    DeployedApi,
    Endpoint,
    HeaderMatch,
    Policy,
    Route,
    Segment,
    Upstream,
    WeightedBackend,
)
from tests.support.laws import SLOW, examples
from tests.xds.translate import inputs
from tests.xds.translate.proxy import static_bootstrap, validate
from xds.translate import check, listener_entries

_odd = st.text(
    st.sampled_from(list("abAZ09-._~!$&'()*+,;=:@%{}[]|\\^\"<> /?#é\u4e2d\n\x7f")), min_size=1, max_size=6
)
_word = st.from_regex(r"[a-z][a-z0-9.~-]{0,8}", fullmatch=True)
_text = st.one_of(_word, _odd)
_segment = st.one_of(
    st.builds(Segment, st.just("literal"), _text), st.builds(Segment, st.just("parameter"), _word)
)
_path = st.tuples(
    st.lists(_segment, max_size=4), st.sampled_from([(), (), (Segment("tail"),), (Segment("literal"),)])
).map(lambda parts: (*parts[0], *parts[1]))
_host = st.one_of(st.sampled_from(["10.0.0.1", "::1", "h.test", "a-b.h.test", "localhost"]), _text)
_endpoints = st.lists(
    st.builds(Endpoint, st.sampled_from(["http", "https"]), _host, st.integers(0, 65536), st.integers(0, 3)),
    min_size=1, max_size=3,
)  # fmt: skip
_upstream = st.builds(Upstream, _endpoints.map(tuple), st.integers(0, 9000))
_base = st.one_of(st.just(""), _text.map(lambda t: "/" + t))
_arms = st.lists(st.builds(WeightedBackend, _upstream, _base, st.integers(0, 5)), max_size=3).map(tuple)
_item = st.fixed_dictionaries({"name": _text, "value": _text})
_headers = st.fixed_dictionaries({"headers": st.lists(_item, max_size=2)})
_origins = st.lists(
    st.sampled_from(["*", "https://a.test", "https://*.a.test", "null", "x", "http://[::1]:1"]), max_size=2
)
_params = {
    "set-headers": st.fixed_dictionaries({}, optional={"request": _headers, "response": _headers}),
    "remove-headers": st.fixed_dictionaries(
        {"request": st.fixed_dictionaries({"headers": st.lists(_text, max_size=2)})}
    ),
    "cors": st.fixed_dictionaries({"allowedOrigins": _origins, "allowCredentials": st.booleans()}),
}
_policy = st.one_of(*(st.builds(Policy, st.just(name), params) for name, params in _params.items()))
_pattern = st.one_of(_text, st.text(st.sampled_from(list("ab.*+?()[]{}1,|^$\\dwsx<!=:iP-")), max_size=12))
_route = st.builds(
    Route,
    st.sampled_from(["GET", "POST", "OPTIONS", "BREW"]),
    _path,
    _arms,
    headers=st.lists(st.builds(HeaderMatch, _text, _pattern, st.booleans()), max_size=2).map(tuple),
    policies=st.lists(_policy, max_size=2).map(tuple),
    timeout_ms=st.none() | st.integers(-1, 10**9),
    retries=st.none() | st.integers(-1, 11),
    retry_on=st.sampled_from(["", "5xx", "503", "503,reset", "x"]),
)  # fmt: skip


def _small(route: Route, upstream: Upstream) -> Route:
    """An operation with only one odd part is more often one there is nothing against."""
    return Route(route.method, route.path, (WeightedBackend(upstream),), headers=route.headers)


_plain = Upstream((Endpoint("http", "10.0.0.1", 80),))
_hosts = st.lists(
    st.one_of(st.sampled_from(["*", "a.test", "*.a.test", "b.a.test"]), _text), min_size=1, max_size=3
)
_api = st.builds(
    DeployedApi,
    organization=st.just("default"),
    api=_text,
    revision=st.integers(1, 9),
    deployment=_text,
    context=st.lists(st.builds(Segment, st.just("literal"), _text), max_size=2).map(
        lambda below: (Segment("literal", "g"), *below)
    ),
    hosts=_hosts.map(tuple),
    routes=st.one_of(
        st.lists(_route.map(lambda r: _small(r, _plain)), min_size=1, max_size=3).map(tuple),
        st.lists(_route, min_size=1, max_size=2).map(tuple),
    ),
)  # fmt: skip


@pytest.mark.usefixtures("envoy")
def test_envoy_takes_every_api_that_nothing_is_found_against(tmp_path: Path) -> None:
    good: list[DeployedApi] = []
    bad: list[DeployedApi] = []

    @settings(examples(300, SLOW), database=None, derandomize=True, phases=[Phase.generate])
    @given(_api)
    def sort(one: DeployedApi) -> None:
        (bad if check(one) else good).append(one)

    sort()
    assert len(good) > 20
    assert len(bad) > 50
    configured = inputs.settings(probe_secret="p%s")
    # Each API is a group of its own here, so that one cannot hide behind another's host and context.
    made = [*listener_entries(configured, 1)]
    for i, one in enumerate(good):
        context = (Segment("literal", f"g{i}"), *one.context[1:])
        alone = DeployedApi(
            one.organization, one.api, one.revision, one.deployment, context, one.hosts, one.routes
        )
        made += inputs.api_entries(configured, f"g{i}", [alone], 1)
    together = inputs.api_entries(configured, "g", good, 1)

    assert validate(static_bootstrap([*made, *together]), tmp_path) == ""
