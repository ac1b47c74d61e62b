"""The compiled encoder writes what envoy-data-plane itself writes."""

import dataclasses
import subprocess
import sys
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest
from betterproto2 import Enum, FieldMetadata, Message
from envoy_data_plane.envoy.config.cluster.v3 import Cluster, ClusterDiscoveryType
from envoy_data_plane.envoy.config.core.v3 import HeaderValue, Metadata
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.config.route.v3 import (
    RetryPolicy,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    ScopedRouteConfiguration,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.cors.v3 import CorsPolicy
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import UpstreamTlsContext
from envoy_data_plane.google.protobuf import Any as PackedAny
from envoy_data_plane.google.protobuf import (
    BoolValue,
    DescriptorProto,
    DoubleValue,
    FieldDescriptorProto,
    SourceCodeInfoLocation,
    Struct,
    Value,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.hang_guard import HANG_SECONDS
from tests.support.laws import SLOW, examples
from tests.xds.translate.inputs import DATA, parse_input
from xds.encoding import Encoded, any_of, build, encode, encoded
from xds.types import message_class, type_url

_INTEGERS = {
    "int32": (-(2**31), 2**31 - 1),
    "sint32": (-(2**31), 2**31 - 1),
    "sfixed32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "fixed32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "sint64": (-(2**63), 2**63 - 1),
    "sfixed64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
    "fixed64": (0, 2**64 - 1),
}
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
_WRAPPED: dict[str, st.SearchStrategy[Any]] = {
    "BoolValue": st.booleans(),
    "BytesValue": st.binary(max_size=40),
    "DoubleValue": st.floats(),
    "FloatValue": st.floats(width=32),
    "Int32Value": st.integers(*_INTEGERS["int32"]),
    "Int64Value": st.integers(*_INTEGERS["int64"]),
    "StringValue": _TEXT,
    "UInt32Value": st.integers(*_INTEGERS["uint32"]),
    "UInt64Value": st.integers(*_INTEGERS["uint64"]),
    "Duration": st.timedeltas(timedelta(0), timedelta(days=3650)),
    "Timestamp": st.datetimes().map(lambda d: d.replace(tzinfo=UTC)),
}


def _single(field: FieldMetadata, kind: Any, depth: int) -> st.SearchStrategy[Any]:
    """Values of one field, not repeated."""
    proto = field.proto_type
    if proto in _INTEGERS:
        return st.integers(*_INTEGERS[proto])
    if proto == "message":
        if field.unwrap is not None:
            return _WRAPPED[field.unwrap().__name__]
        return _messages(kind, depth - 1)
    return {
        "bool": st.booleans(),
        "string": _TEXT,
        "bytes": st.binary(max_size=200),
        "float": st.floats(width=32),
        "double": st.floats(),
        "enum": st.sampled_from(list(kind))
        if isinstance(kind, type) and issubclass(kind, Enum)
        else st.nothing(),
    }[proto]


def _messages(kind: type[Any], depth: int) -> st.SearchStrategy[Any]:
    """Messages of a class with a few fields set, at most one of each oneof."""
    fields = {f.name: f.metadata["betterproto"] for f in dataclasses.fields(kind)}

    @st.composite
    def draw_message(draw: st.DrawFn) -> Any:
        values: dict[str, Any] = {}
        taken: set[str] = set()
        classes = kind._betterproto.cls_by_field
        for name in (
            draw(st.lists(st.sampled_from(sorted(fields)), max_size=5, unique=True)) if fields else []
        ):
            field: FieldMetadata = fields[name]
            meta = field.map_meta[1] if field.map_meta else field
            if (field.group and field.group in taken) or (
                not depth and meta.proto_type == "message" and not meta.unwrap
            ):
                continue
            taken.add(field.group or "")
            if field.map_meta:
                keys = _single(field.map_meta[0], None, 0)
                of = _single(meta, classes[f"{name}.value"], depth)
                values[name] = draw(st.dictionaries(keys, of, max_size=3))
            else:
                one = _single(field, classes[name], depth)
                values[name] = draw(st.lists(one, max_size=3) if field.repeated else one)
        return kind(**values)

    return draw_message()


# Between them these hold every kind of field there is: oneofs, optional and wrapped values, enums,
# packed numbers, maps of text and of messages, Any, durations, floats, and deep nesting.
KINDS: tuple[type[Any], ...] = (
    Cluster, Listener, RouteConfiguration, ScopedRouteConfiguration, VirtualHost, Route, RouteAction,
    RouteMatch, RetryPolicy, CorsPolicy, HttpConnectionManager, UpstreamTlsContext, Metadata, Struct, Value,
    PackedAny,
    HeaderValue, DescriptorProto, FieldDescriptorProto, SourceCodeInfoLocation,
)  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_the_bytes_are_the_librarys(kind: type[Any]) -> None:
    @settings(examples(15, SLOW), database=None, derandomize=True)
    @given(_messages(kind, 2))
    def same(message: Any) -> None:
        assert encode(message) == bytes(message)
        names = [field.name for field in dataclasses.fields(message)]
        given = {n: value for n in reversed(names) if (value := getattr(message, n)) is not None}
        assert encoded(kind, **given) == bytes(message)

    same()


def _inside(message: Any, seen: dict[type[Any], Any]) -> dict[type[Any], Any]:
    """A message of each class found in a message, those packed in an Any included."""
    seen.setdefault(type(message), message)
    values = [getattr(message, f.name) for f in dataclasses.fields(message)]
    while values:
        value = values.pop()
        if isinstance(value, list | tuple):
            values += list[Any](value)
        elif isinstance(value, dict):
            values += list[Any](value.values())
        elif isinstance(value, PackedAny):
            values.append(message_class(value.type_url).parse(value.value))
        elif isinstance(value, Message):
            _inside(value, seen)
    return seen


@pytest.mark.parametrize("path", sorted((DATA / "in").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_translator_encodes_as_the_library_does(path: Path) -> None:
    entries = parse_input(path.read_text(encoding="utf-8")).entries
    assert entries
    seen: dict[type[Any], Any] = {}
    for entry in entries:
        message = message_class(entry.type).parse(entry.body)
        assert bytes(message) == entry.body
        _inside(message, seen)
    assert len(seen) > 20
    for message in seen.values():
        assert encode(message) == bytes(message)


def test_build_equals_the_constructor() -> None:
    fields: dict[str, Any] = {"cluster": "c", "timeout": timedelta(0), "auto_host_rewrite": False}

    assert build(RouteAction, **fields) == RouteAction(**fields)
    assert build(RouteAction) == RouteAction()


def test_built_messages_share_no_lists() -> None:
    build(VirtualHost).domains.append("a")

    assert build(VirtualHost).domains == []


def test_build_refuses_a_field_that_is_not_there() -> None:
    with pytest.raises(TypeError, match="clusterr"):
        build(RouteAction, clusterr="c")


def test_build_refuses_two_members_of_a_oneof() -> None:
    with pytest.raises(TypeError, match="cluster and cluster_header exclude each other"):
        build(RouteAction, cluster="c", cluster_header="h")
    assert build(RouteAction, cluster="c", cluster_header=None).cluster == "c"


def test_fields_are_encoded_without_their_message_as_with_it() -> None:
    fields: dict[str, Any] = {"timeout": timedelta(0), "auto_host_rewrite": False, "cluster": "c"}

    assert encoded(RouteAction, **fields) == encode(build(RouteAction, **fields)) != b""
    assert encoded(RouteAction) == b""
    assert encoded(Route, match=encoded(RouteMatch, path="/a")) == bytes(Route(match=RouteMatch(path="/a")))
    with pytest.raises(TypeError, match="clusterr"):
        encoded(RouteAction, clusterr="c")
    with pytest.raises(TypeError, match="cluster, cluster_header some exclude each other"):
        encoded(RouteAction, cluster="c", cluster_header="h")


def test_an_empty_message_that_is_set_stays_set() -> None:
    assert encode(build(RouteAction, timeout=timedelta(0))) == bytes(RouteAction(timeout=timedelta(0))) != b""
    static = Cluster(type=ClusterDiscoveryType.STATIC)
    assert encode(build(Cluster, type=ClusterDiscoveryType.STATIC)) == bytes(static) != b""
    assert encode(build(RouteMatch, path="")) == bytes(RouteMatch(path="")) != b""


def test_encoded_bytes_stand_for_their_message() -> None:
    routes = [Route(name="a", match=RouteMatch(prefix="/")), Route(name="b")]
    ready: list[Any] = [Encoded(encode(route)) for route in routes]

    assert encode(build(VirtualHost, name="v", routes=ready)) == bytes(VirtualHost(name="v", routes=routes))


def test_unknown_fields_are_kept() -> None:
    message = BoolValue.parse(b"\x08\x01\x98\x06\x07")

    assert encode(message) == bytes(message) == b"\x08\x01\x98\x06\x07"


def test_a_value_the_field_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="64 bits"):
        encode(build(FieldDescriptorProto, number=-(2**63) - 1))
    with pytest.raises(Exception, match="float"):
        encode(build(DoubleValue, value="x"))


def test_any_of_packs_as_the_library_does() -> None:
    policy = CorsPolicy(max_age="600")

    assert any_of(policy) == PackedAny.pack(policy)
    assert message_class(type_url(CorsPolicy)) is CorsPolicy


def test_a_class_that_is_no_registered_message_cannot_be_packed() -> None:
    class Stranger(Message):
        pass

    with pytest.raises(LookupError, match="Stranger"):
        type_url(Stranger)
    with pytest.raises(LookupError, match=r"no\.such\.Type"):
        message_class("type.googleapis.com/no.such.Type")


def test_every_packed_module_is_found_without_help() -> None:
    """In a process where nothing else was imported, an Any can be made and read."""
    code = (
        "from xds.types import message_class;"
        "kind = message_class('type.googleapis.com/envoy.extensions.filters.http.router.v3.Router');"
        "from xds.encoding import any_of, build; print(any_of(build(kind)).type_url)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=HANG_SECONDS
    )

    assert done.stdout.strip() == "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


def test_importing_the_encoder_does_not_import_the_messages() -> None:
    code = "import sys, xds.encoding; print({'envoy_data_plane', 'betterproto2'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=HANG_SECONDS
    )

    assert done.stdout.strip() == "set()"
