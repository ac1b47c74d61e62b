"""The programs in examples/ that publish a command: each is compiled and run against a real Kafka."""

import asyncio
import json
import os
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from signalbox.devservers.kafka.jars import VERSION as KAFKA_VERSION
from signalbox.settings import kafka_environment
from streams.kafka.security.authority import open_authority
from streams.kafka.settings import KafkaSettings
from tests.client.served import ORGANIZATION, over_kafka, service_token
from tests.streams.envelopes import envelope
from tests.support.running_signalbox import ROOT
from tests.support.toolchains import BUILD_SECONDS, build_go, download, run, tool

EXAMPLES = ROOT / "examples"
RUN_SECONDS = 90.0

Command = list[str | Path]
Prepare = Callable[[Path, Path], Awaitable[Command]]
"""From Kafka's jars and an empty directory: how the program is run."""


async def go(jars: Path, into: Path) -> Command:
    return [await build_go(EXAMPLES / "publish-go", into)]


async def java(jars: Path, into: Path) -> Command:
    compiler, runtime = tool("javac"), tool("java")
    source = EXAMPLES / "publish-java" / "PublishCommand.java"
    compiled = await run(
        [compiler, "-Xlint:all", "-Werror", "-cp", f"{jars}/*", "-d", into, source],
        cwd=into,
        seconds=BUILD_SECONDS,
    )
    assert compiled.code == 0, compiled.err
    return [runtime, "-XX:TieredStopAtLevel=1", "-Xmx128m", "-cp", f"{into}:{jars}/*", "PublishCommand"]


async def nodejs(jars: Path, into: Path) -> Command:
    node, npm = tool("node"), tool("npm")
    project = Path(shutil.copytree(EXAMPLES / "publish-nodejs", into / "project"))
    await download([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], project)
    return [node, project / "publish.mjs"]


async def kcat(jars: Path, into: Path) -> Command:
    tool("kcat")
    return [tool("bash"), EXAMPLES / "publish-kcat" / "publish.sh"]


@pytest.mark.parametrize("prepare", [go, java, nodejs, kcat], ids=["Go", "Java", "Node.js", "kcat"])
async def test_a_program_publishes_a_command_and_prints_its_outcome(
    prepare: Prepare, kafka_files: Path, kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    into = tmp_path / "program"
    into.mkdir()
    program = await prepare(kafka_files, into)
    environment = {
        **kafka_environment(kafka_settings),
        "SIGNALBOX_ORG": ORGANIZATION,
    }
    async with over_kafka(kafka_settings, tmp_path) as served:
        good = {**environment, "SIGNALBOX_COMMAND_TOKEN": service_token(tmp_path)}
        forged = {**environment, "SIGNALBOX_COMMAND_TOKEN": "forged"}
        accepted, rejected = await asyncio.gather(
            run([*program, "shop"], cwd=into, seconds=RUN_SECONDS, environment=good),
            run([*program, "other"], cwd=into, seconds=RUN_SECONDS, environment=forged),
        )
        projects = [event.data["name"] for event in await served.events() if "project" in event.type]
    assert (accepted.code, accepted.out.strip()) == (0, "accepted"), accepted.err
    assert (rejected.code, rejected.out.replace(":", "").split()[:2]) == (1, ["rejected", "unauthorized"])
    assert projects == ["shop"]


KCAT = """#!/bin/sh
case "$*" in
    *-P*) for word in "$@"; do printf '%s\\0' "$word"; done >"$KCAT_SENT"; cat >"$KCAT_SENT.value" ;;
    *)
        id=$(tr '\\0' '\\n' <"$KCAT_SENT" | sed -n 's/^ce_id=//p')
        printf 'ce_causationid=%s,ce_outcome=accepted\\n' "$id"
        ;;
esac
"""
"""Keeps what it is to send, and answers that it was accepted."""


async def test_the_shell_program_sends_a_proof_and_shows_no_secret_in_its_arguments(tmp_path: Path) -> None:
    # Given a kcat that keeps what it is called with
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "kcat").write_text(KCAT)
    (tmp_path / "bin" / "kcat").chmod(0o755)
    authority = open_authority(tmp_path / "signing.jwk", tmp_path / "trusted.jwks")
    token = service_token(tmp_path)
    environment = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "KCAT_SENT": str(tmp_path / "sent"),
        "SIGNALBOX_ORG": ORGANIZATION,
        "SIGNALBOX_COMMAND_TOKEN": token,
        "SIGNALBOX_KAFKA_MECHANISM": "SCRAM-SHA-256",
        "SIGNALBOX_KAFKA_USERNAME": "billing",
        "SIGNALBOX_KAFKA_PASSWORD": "s3cret",
    }
    # When a command is sent
    tool("perl")
    script = EXAMPLES / "publish-kcat" / "publish.sh"
    ran = await run(
        [tool("bash"), script, "shop"], cwd=tmp_path, seconds=RUN_SECONDS, environment=environment
    )
    assert (ran.code, ran.out.strip()) == (0, "accepted"), ran.err
    # Then its proof is good for what was sent, and its arguments hold neither the password nor the secret
    arguments = (tmp_path / "sent").read_text().split("\0")
    sent = dict(word.split("=", 1) for word in arguments if word.startswith("ce_"))
    body = (tmp_path / "sent.value").read_bytes()
    given = replace(envelope(key=ORGANIZATION), id=sent["ce_id"], type=sent["ce_type"], subject="")
    assert authority.verify(sent["ce_authorization"], given, body).authid == "billing"
    assert not [word for word in arguments if "s3cret" in word or token.partition("~")[2] in word]


async def test_the_shell_program_is_one_that_bash_can_read() -> None:
    script = EXAMPLES / "publish-kcat" / "publish.sh"
    checked = await run([tool("bash"), "-n", script], cwd=EXAMPLES, seconds=RUN_SECONDS)
    assert (checked.code, checked.err) == (0, "")


@pytest.mark.parametrize(
    "program",
    [
        "publish_a_command.py",
        "publish-go/main.go",
        "publish-java/PublishCommand.java",
        "publish-nodejs/publish.mjs",
        "publish-kcat/publish.sh",
    ],
)
def test_every_program_stands_in_the_documentation(program: str) -> None:
    page = (ROOT / "docs" / "publishing-commands.md").read_text(encoding="utf-8")
    assert f"(../examples/{program})" in page


def test_the_java_example_is_built_with_the_client_it_is_tested_with() -> None:
    pom = ElementTree.parse(EXAMPLES / "publish-java" / "pom.xml")
    names = {"m": "http://maven.apache.org/POM/4.0.0"}
    versions = {
        found.findtext("m:artifactId", "", names): found.findtext("m:version", "", names)
        for found in pom.iterfind(".//m:dependency", names)
    }
    assert versions["kafka-clients"] == KAFKA_VERSION


def test_the_lock_file_of_the_nodejs_example_pins_digests_and_names_no_registry() -> None:
    project = EXAMPLES / "publish-nodejs"
    wanted = json.loads((project / "package.json").read_text())["dependencies"]
    locked = json.loads((project / "package-lock.json").read_text())["packages"]
    assert {name: locked[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    for path, package in locked.items():
        assert "resolved" not in package
        assert not path or package["integrity"].startswith("sha512-")
