"""What is decoded and encoded by hand is what envoy-data-plane's own messages say."""

import pytest
from envoy_data_plane.envoy.config.core.v3 import BuildVersion, Locality, Node
from envoy_data_plane.envoy.service.discovery.v3 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from envoy_data_plane.envoy.type.v3 import SemanticVersion
from envoy_data_plane.google.rpc import Status
from hypothesis import given
from hypothesis import strategies as st

from tests.xds.proxies import entry
from xds.server import wire
from xds.server.limits import LONGEST_REASON

texts = st.text(max_size=20)
nodes = st.builds(
    Node,
    id=texts,
    cluster=texts,
    user_agent_name=texts,
    user_agent_version=texts,
    locality=st.builds(Locality, zone=texts),
    client_features=st.lists(texts, max_size=2),
)
refusals = st.builds(Status, code=st.integers(-(2**31), 2**31 - 1), message=texts)
delta_requests = st.builds(
    DeltaDiscoveryRequest,
    node=st.none() | nodes,
    type_url=texts,
    resource_names_subscribe=st.lists(texts),
    resource_names_unsubscribe=st.lists(texts),
    initial_resource_versions=st.dictionaries(texts, texts),
    response_nonce=texts,
    error_detail=st.none() | refusals,
)
state_requests = st.builds(
    DiscoveryRequest,
    version_info=texts,
    node=st.none() | nodes,
    resource_names=st.lists(texts),
    type_url=texts,
    response_nonce=texts,
    error_detail=st.none() | refusals,
)


def same_node(own: wire.Node | None, theirs: Node | None) -> bool:
    if own is None or theirs is None:
        return own is theirs
    version = theirs.user_agent_version or ""
    return (own.id, own.cluster, own.agent_name, own.agent_version) == (
        theirs.id,
        theirs.cluster,
        theirs.user_agent_name,
        version,
    )


def same_refusal(own: wire.ErrorDetail | None, theirs: Status | None) -> bool:
    if own is None or theirs is None:
        return own is theirs
    return (own.code, own.message) == (theirs.code, theirs.message)


@given(delta_requests)
def test_delta_requests_are_read_as_written(request: DeltaDiscoveryRequest) -> None:
    own = wire.decode_delta(bytes(request))
    assert own.type == request.type_url
    assert own.subscribe == request.resource_names_subscribe
    assert own.unsubscribe == request.resource_names_unsubscribe
    assert own.initial_versions == request.initial_resource_versions
    assert own.nonce == request.response_nonce
    assert same_refusal(own.error_detail, request.error_detail)
    assert same_node(own.node, request.node)
    assert wire.decode_delta(bytes(request), False).node is None


@given(state_requests)
def test_state_requests_are_read_as_written(request: DiscoveryRequest) -> None:
    own = wire.decode_state(bytes(request))
    assert own.type == request.type_url
    assert own.names == request.resource_names
    assert own.version == request.version_info
    assert own.nonce == request.response_nonce
    assert same_refusal(own.error_detail, request.error_detail)
    assert same_node(own.node, request.node)


def test_the_agent_is_name_and_build_version() -> None:
    build = BuildVersion(version=SemanticVersion(major_number=1, minor_number=40))
    node = Node(id="n", user_agent_name="envoy", user_agent_build_version=build)
    own = wire.decode_delta(bytes(DeltaDiscoveryRequest(node=node)))
    assert own.node is not None
    assert own.node.agent == "envoy 1.40.0"


@given(st.binary(max_size=60))
def test_any_bytes_are_a_request_or_a_wire_error(data: bytes) -> None:
    for decode in (wire.decode_delta, wire.decode_state):
        try:
            decode(data)
        except wire.WireError:
            continue


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_cut_off_request_is_an_error(cut: int) -> None:
    data = bytes(DeltaDiscoveryRequest(type_url="some type url"))
    with pytest.raises(wire.WireError):
        wire.decode_delta(data[:-cut])


@given(st.lists(st.tuples(texts, st.text(min_size=1, max_size=300))), st.lists(texts), texts)
def test_responses_are_read_by_the_library(
    contents: list[tuple[str, str]], removed: list[str], version: str
) -> None:
    resources = [wire.Ready(entry("CDS", name, body), 1) for name, body in contents]
    delta = DeltaDiscoveryResponse.parse(wire.delta_response("some.type", "7", resources, removed, version))
    assert (delta.type_url, delta.nonce, delta.system_version_info) == ("some.type", "7", version)
    assert delta.removed_resources == removed
    assert [(r.name, r.version) for r in delta.resources] == [
        (r.entry.name, r.entry.version) for r in resources
    ]
    assert [r.resource and (r.resource.type_url, r.resource.value) for r in delta.resources] == [
        (r.entry.type, r.entry.body) for r in resources
    ]
    state = DiscoveryResponse.parse(wire.state_response("some.type", "7", resources, version))
    assert (state.type_url, state.nonce, state.version_info) == ("some.type", "7", version)
    assert [(r.type_url, r.value) for r in state.resources] == [
        (r.entry.type, r.entry.body) for r in resources
    ]


def test_of_a_long_rejection_the_beginning_is_looked_at() -> None:
    message = "bad: 'c' " + "x" * LONGEST_REASON
    request = DeltaDiscoveryRequest(error_detail=Status(code=13, message=message))
    refusal = wire.decode_delta(bytes(request)).error_detail
    assert refusal is not None
    assert refusal.message == message[:LONGEST_REASON]
