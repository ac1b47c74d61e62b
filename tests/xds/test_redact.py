"""Reasons say what was wrong, and nothing of what the resource held."""

import pytest

from xds.server.redact import LIMIT, redacted

ROWS = [
    (
        "contents after a validation error",
        "Proto constraint validation failed (ClusterValidationError.ConnectTimeout: value must be greater "
        'than 0s): name: "billing" metadata { fields { key: "api-key" value: "s3cr3t-value" } }',
        "Proto constraint validation failed (ClusterValidationError.ConnectTimeout: value must be greater "
        "than 0s)",
    ),
    (
        "a name we know is kept",
        "Error adding/updating cluster(s) apis/orders: duplicate of 'apis/orders'",
        "Error adding/updating cluster(s) apis/orders: duplicate of apis/orders",
    ),
    (
        "the address that a listener cannot have",
        "Error adding/updating listener(s) listener: cannot bind '0.0.0.0:8443': Address already in use",
        "Error adding/updating listener(s) listener: cannot bind 0.0.0.0:8443: Address already in use",
    ),
    (
        "no address where one should be",
        "cannot bind 'hunter2 hunter2': Address already in use",
        "cannot bind …: Address already in use",
    ),
    ("a JSON document", 'cannot parse: {"password":"hunter2"}', "cannot parse …"),
    ("a quoted value", 'invalid header value "Basic hunter2" in route', "invalid header value … in route"),
    ("a single quoted value", "invalid value 'hunter2' in route", "invalid value … in route"),
    (
        "a bearer token",
        "rejected Authorization Bearer hunter2 there",
        "rejected Authorization Bearer … there",
    ),
    ("a key and its value", "unknown password=hunter2", "unknown password=…"),
    ("user information in a URL", "no host in http://joe:hunter2@host/x", "no host in http://…@host/x"),
    ("a long random word", "bad key sk0live0hunter2abcdefghij0123456789", "bad key …"),
    ("further lines", "first sentence\nhunter2\nhunter2", "first sentence"),
    (
        "protobuf's mark of debug text",
        "Invalid duration: goo.gle/debugstr  \nseconds: -1",
        "Invalid duration",
    ),
    ("nothing", "", "rejected without a reason"),
]


@pytest.mark.parametrize(("reason", "shown"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_reason_is_shown_shortened_and_without_secrets(reason: str, shown: str) -> None:
    assert redacted(reason, ["apis/orders"]) == shown
    assert "hunter2" not in shown


def test_a_reason_is_bounded() -> None:
    assert len(redacted("word " * 1000)) == LIMIT
