"""What the parser makes of record batches that no client should send."""

from aiokafka import TopicPartition
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from streams.kafka.fetching import parsed

PLACE = TopicPartition("t", 0)


def batch(*names: str) -> bytearray:
    """Messages 0, 1, … with a header each."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1_000_000)
    for number, name in enumerate(names):
        builder.append(number, 1, b"k", b"%d" % number, [(name, b"v")])
    return builder.build()


def test_messages_are_read_in_order_from_an_offset():
    messages, following = parsed(PLACE, bytes(batch("a", "b", "c")), (), 1)
    assert [(m.offset, m.value) for m in messages] == [(1, b"1"), (2, b"2")]
    assert following == 3


def test_a_header_name_that_is_no_text_stops_nobody():
    content = batch("first", "second", "third").replace(b"second", b"\xff\xfe\xff\xfe\xff\xfe")
    messages, following = parsed(PLACE, bytes(content), (), 0)
    assert [(m.offset, m.value) for m in messages] == [(0, b"0"), (1, None), (2, None)]
    assert following == 3
