"""A command that the log does not take is refused with both sizes."""

import orjson
from starlette.types import Message, Receive, Scope, Send

from api.limits import Failures
from streams.log import MessageTooLarge


async def test_it_is_413_with_the_size_and_the_limit():
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise MessageTooLarge("A message of 2,000,000 bytes is too large for the topic t, which takes 1,000.")

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope: Scope = {"type": "http", "method": "PUT", "path": "/api/v1/organizations/a/apis/b", "headers": []}
    await Failures(app)(scope, receive, send)
    body = orjson.loads(b"".join(m.get("body", b"") for m in sent[1:]))
    assert sent[0]["status"] == 413
    assert body["type"] == "https://signalbox.io/problems/command-too-large"
    assert "2,000,000" in body["detail"]
