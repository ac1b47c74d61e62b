"""The page on schemas: its instructions work on written messages."""

import asyncio
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from schemas.catalog import MESSAGES
from schemas.codecs.avro import dataschema
from schemas.codecs.examples import example
from schemas.envelope import Envelope
from streams.kafka.messages.wire import encode
from tests.api.running_api import running_api

PAGE = (Path(__file__).parents[2] / "docs" / "schemas.md").read_text("utf-8")


async def test_the_readers_example_reads_every_message(tmp_path: Path) -> None:
    [source] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    async with running_api(tmp_path) as made:
        server = uvicorn.Server(uvicorn.Config(made.app, log_level="warning", lifespan="off"))
        listening = socket.create_server(("127.0.0.1", 0))
        serving = asyncio.create_task(server.serve([listening]))
        port = listening.getsockname()[1]
        names: dict[str, Any] = {}
        exec(source.replace("127.0.0.1:8080", f"127.0.0.1:{port}"), names)
        for model in MESSAGES.values():
            message = example(model)
            envelope = Envelope(
                id="1", type=model.type(), source="/signalbox", subject="s", time="", partitionkey="acme",
                dataschema=dataschema(model), data=message.data(),
            )  # fmt: skip
            value, headers = encode(envelope)
            assert dict(headers)["content-type"] == b"application/avro"
            read = await asyncio.to_thread(names["data_of"], dict(headers), value)
            known = {name: value for name, value in read.items() if value is not None}
            assert known.keys() >= envelope.data.keys()
            assert known["organization"] == envelope.data["organization"]
            assert names["data_of"]({}, b'{"a": 1}') == {"a": 1}
        server.should_exit = True
        await serving


@pytest.mark.parametrize("header", re.findall(r"^(ce_\w+|content-type): +\S", PAGE, re.MULTILINE))
def test_the_headers_it_shows_are_those_that_are_written(header: str) -> None:
    model = MESSAGES["io.signalbox.deployment.started.v1"]
    envelope = Envelope(
        id="1", type=model.type(), source="/signalbox", subject="s", time="t", partitionkey="acme",
        dataschema=dataschema(model), data=example(model).data(),
    )  # fmt: skip
    assert header in dict(encode(envelope)[1])
