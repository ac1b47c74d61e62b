"""The identity of a topic, beside its name: the ids of its cluster and of the topic.

A topic that was deleted and created again has the same name and another id. Kafka returns the id in metadata
from version 10 on, which aiokafka does not ask for; fields as in Kafka's `MetadataRequest.json`.
"""

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import LeaderNotAvailableError, NodeNotReadyError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

_KEY, _VERSION = 3, 10
_TAGS = ("tags", TaggedFields)
_ID = (("id_high", Int64), ("id_low", Int64))
_TEXT = CompactString("utf-8")
_PARTITION = (
    ("error_code", Int16),
    ("partition", Int32),
    ("leader", Int32),
    ("leader_epoch", Int32),
    ("replicas", CompactArray(Int32)),
    ("isr", CompactArray(Int32)),
    ("offline", CompactArray(Int32)),
    _TAGS,
)


class _Metadata(Response):
    API_KEY = _KEY
    API_VERSION = _VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), _TAGS),
        ),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", _TEXT),
                *_ID,
                ("is_internal", Boolean),
                ("partitions", CompactArray(*_PARTITION)),
                ("operations", Int32),
                _TAGS,
            ),
        ),
        ("operations", Int32),
        _TAGS,
    )


class _MetadataRequest(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = _KEY
    API_VERSION = _VERSION
    RESPONSE_TYPE = _Metadata
    SCHEMA = Schema(
        ("topics", CompactArray(*_ID, ("name", _TEXT), _TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_operations", Boolean),
        ("include_topic_operations", Boolean),
        _TAGS,
    )


class _IdentityRequest(Request[_MetadataRequest]):
    API_KEY = _KEY

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: type[_MetadataRequest]) -> _MetadataRequest:
        return request_struct_class([(0, 0, self._topic, {})], False, False, False, {})


async def identity(client: AIOKafkaClient, topic: str, group: str) -> str:
    """The ids of the cluster and the topic, which are never used again.

    Raises KafkaError, OSError; NotImplementedError for brokers before 2.8.
    """
    node = client.get_random_node()
    if node is None:
        raise NodeNotReadyError("no broker is known")
    response = await client.send(node, _IdentityRequest(topic), group=group)
    ((code, _, high, low, *_),) = response.topics
    if code and for_code(code) is not LeaderNotAvailableError:
        raise for_code(code)()
    if (high, low) == (0, 0):
        raise UnknownTopicOrPartitionError(topic)
    return f"{response.cluster_id} {high & _MASK:016x}{low & _MASK:016x}"


_MASK = (1 << 64) - 1
