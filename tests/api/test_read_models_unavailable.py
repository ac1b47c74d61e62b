"""Who asks while the read models' database is gone gets a clear answer at once."""

import orjson
from starlette.types import Message, Receive, Scope, Send

from api.limits import Failures
from projections.failures import ReadModelsUnavailable


async def test_it_is_503_with_a_sentence_and_the_lag():
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ReadModelsUnavailable({"resources": 12})

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope: Scope = {"type": "http", "method": "GET", "path": "/api/v1/organizations/acme/apis", "headers": []}
    await Failures(app)(scope, receive, send)

    start, body = sent[0], orjson.loads(b"".join(m.get("body", b"") for m in sent[1:]))
    assert start["status"] == 503
    assert (b"retry-after", b"2") in [(name.lower(), value) for name, value in start["headers"]]
    assert (body["type"], body["behind"]) == ("https://signalbox.io/problems/unavailable", {"resources": 12})
    assert body["detail"] == ("The database of the read models does not answer; changes are projected later.")
