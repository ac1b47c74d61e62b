"""API specifications that agree with themselves, as a hypothesis strategy."""

import re
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from definitions.rules import contradictions
from schemas.aggregates.api import (
    ApiSpec,
    Backend,
    Endpoint,
    HeaderMatch,
    Method,
    Operation,
    Policy,
    Resilience,
    Upstream,
)
from schemas.text import fault_in

_BIDIRECTIONAL = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_SEEN = st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters=_BIDIRECTIONAL)
texts = st.text(_SEEN, max_size=40)
"""Any text that may be sent, but for line ends."""

tricky = st.sampled_from(
    (
        *("yes", "on", "null", "~", "", " ", "1.10", "1e3", "0o17", "010", "0x1F", "1:30", "2024-06-15"),
        *("<<", "=", "*a", "&a", "!x", "---", "...", "- a", "a: b", "#c", "-", "?", "|", ">", "%", "@", "`"),
        *("a\n\n b\n", "  a\nb", "a \nb", "\ta\n", "a\r\nb", "a\n---\nb", "\n", "\na", "a\n", "Ünï\ncødé\n"),
        *("\u2028", "\x85", "\ufeff", ".inf", ".nan", "'", '"', "\\", "🚀", "9" * 30),
    )
)
words = (texts | tricky).filter(lambda text: fault_in(text) is None)
paragraphs = (st.text(_SEEN | st.sampled_from("\n\t"), max_size=40) | tricky).filter(
    lambda text: fault_in(text, multiline=True) is None
)
names = st.from_regex(re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,8}[A-Za-z0-9])?\Z"), fullmatch=True)
milliseconds = st.none() | st.integers(0, 86_400_000) | st.sampled_from((0, 1, 1000, 60_000, 3_600_000))
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | paragraphs,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
hosts = st.sampled_from(("*", "api.example.com", "*.example.com", "a-b.c1"))
urls = st.sampled_from(
    ("http://a", "https://a.b:8080", "http://[::1]:80", "http://10.0.0.1:9000", "http://user@b")
)
base_paths = st.sampled_from(("", "/v2", "/a//b", "/%20", "/ü", "/a/b.c"))
endpoints = st.builds(Endpoint, url=urls, weight=st.integers(0, 10_000))
policies = st.builds(
    Policy,
    name=words.filter(bool),
    version=st.sampled_from(("v1", "v2", "v10")),
    params=st.dictionaries(words, json_values, max_size=3),
    condition=st.none() | paragraphs,
)
resilience = st.none() | st.builds(
    Resilience,
    timeout=milliseconds,
    idle_timeout=milliseconds,
    retries=st.none() | st.integers(0, 10),
    retry_on=st.none() | words,
)
headers = st.builds(
    HeaderMatch, name=words.filter(bool), value=words, type=st.sampled_from(("Exact", "RegularExpression"))
)
paths = st.lists(
    st.sampled_from(("a", "b.c", "{id}", "{other}", "%7B", "ü", "yes", "*")), max_size=4, unique=True
).map(lambda parts: "/" + "/".join(sorted(parts, key=lambda part: part == "*")))


def _operations(backends: st.SearchStrategy[tuple[Backend, ...]]) -> st.SearchStrategy[Operation]:
    return st.builds(
        Operation,
        method=st.sampled_from(Method.__args__),
        path=paths,
        operation_id=st.none() | words,
        headers=st.lists(headers, max_size=2).map(tuple),
        backends=st.just(()) | backends,
        policies=st.lists(policies, max_size=2).map(tuple),
        resilience=resilience,
    )


@st.composite
def specs(draw: st.DrawFn) -> ApiSpec:
    upstream_names = draw(st.lists(st.just("default") | names, min_size=1, max_size=3, unique=True))
    backends = st.lists(
        st.builds(Backend, upstream=st.sampled_from(upstream_names), weight=st.integers(0, 10_000)),
        min_size=1,
        max_size=3,
    ).map(tuple)
    upstreams = [
        draw(
            st.builds(
                Upstream,
                name=st.just(name),
                endpoints=st.lists(endpoints, min_size=1, max_size=2).map(tuple),
                base_path=base_paths,
                connect_timeout=milliseconds,
            )
        )
        for name in upstream_names
    ]
    context = draw(st.sampled_from(("/a", "/orders/v1.0", "/~x/y_z")))
    spec = ApiSpec(
        display_name=draw(words),
        description=draw(paragraphs),
        version=draw(words.filter(bool)),
        context=context,
        hosts=tuple(draw(st.lists(hosts, min_size=1, max_size=2))),
        upstreams=tuple(upstreams),
        backends=draw(backends),
        sandbox_hosts=tuple(draw(st.lists(hosts, max_size=2))),
        sandbox_backends=draw(st.just(()) | backends),
        operations=tuple(draw(st.lists(_operations(backends), min_size=1, max_size=3))),
        policies=tuple(draw(st.lists(policies, max_size=2))),
        resilience=draw(resilience),
        plans=tuple(draw(st.lists(words, max_size=2))),
        delegated_contexts=tuple(
            context + below for below in draw(st.lists(st.sampled_from(("", "/b")), max_size=2))
        ),
        labels=draw(st.dictionaries(words, words, max_size=2)),
        annotations=draw(st.dictionaries(words, paragraphs, max_size=2)),
    )
    assume(not list(contradictions(spec.model_dump(mode="json"))))
    return spec
