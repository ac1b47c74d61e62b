"""Old events are upcast when they are read; the event log keeps the stored form."""

import copy
from typing import Any

import pytest

from schemas.aggregates.deployment import DeploymentStarted
from schemas.catalog import MESSAGES
from schemas.codecs.examples import example
from schemas.envelope import GENESIS, Envelope
from schemas.upcasting import UPCASTERS, UnknownSchema, upcast


def event(type: str, data: dict[str, Any]) -> Envelope:
    return Envelope(
        id="01936f8e-6b00-7000-8000-000000000001",
        type=type,
        source="/signalbox",
        subject="organizations/acme/deployments/d1",
        time="2026-01-02T03:04:05.000006Z",
        partitionkey="acme",
        dataschema="urn:signalbox:schema:io.signalbox.deployment.started.v0:1",
        data=data,
    )


EARLY = event(
    "io.signalbox.deployment.started.v0",
    {
        "organization": "acme",
        "name": "d1",
        "api": "orders",
        "revision": 3,
        "gateway": "local",
        "context": "/orders",
        "hosts": ["*"],
    },
).chained(7, GENESIS)


def test_an_early_deployment_is_read_as_one_of_today() -> None:
    now = upcast(EARLY)
    assert now.type == DeploymentStarted.type()
    assert DeploymentStarted.of(now.data) == DeploymentStarted(
        organization="acme",
        name="d1",
        api="orders",
        revision=3,
        gateways=("local",),
        context="/orders",
        hosts=("*",),
        requested_at="2026-01-02T03:04:05.000006Z",
    )


def test_everything_but_type_schema_and_data_stays() -> None:
    now, before = upcast(EARLY), EARLY
    changed = {n for n in before.attributes() if before.attributes()[n] != now.attributes().get(n)}
    assert changed == {"type", "dataschema"}


def test_the_stored_event_is_left_alone() -> None:
    before = copy.deepcopy(EARLY)
    upcast(EARLY)
    assert before == EARLY


def test_upcasting_twice_is_upcasting_once() -> None:
    assert upcast(upcast(EARLY)) == upcast(EARLY)


@pytest.mark.parametrize("type_", MESSAGES)
def test_current_messages_pass_untouched(type_: str) -> None:
    current = event(type_, example(MESSAGES[type_]).data())
    assert upcast(current) is current


@pytest.mark.parametrize("type_", UPCASTERS)
def test_every_old_type_is_old(type_: str) -> None:
    assert type_ not in MESSAGES


@pytest.mark.parametrize(
    ("type_", "sentence"),
    [
        ("io.signalbox.deployment.started.v9", "needs version v9 of io.signalbox.deployment.started"),
        ("io.signalbox.api.published.v0", "needs version v0 of io.signalbox.api.published"),
        ("io.signalbox.lamp.lit.v1", "needs a version of Signalbox that supports it"),
        ("", "cannot be read"),
    ],
)
def test_an_unreadable_version_is_refused_with_the_version_it_needs(type_: str, sentence: str) -> None:
    with pytest.raises(UnknownSchema, match=sentence) as unknown:
        upcast(event(type_, {}))
    assert unknown.value.type == type_


def test_the_types_that_can_be_read_are_named() -> None:
    with pytest.raises(UnknownSchema) as unknown:
        upcast(event("io.signalbox.deployment.started.v9", {}))
    assert unknown.value.known == (
        "io.signalbox.deployment.started.v0",
        "io.signalbox.deployment.started.v1",
    )


def test_an_old_form_that_lacks_a_field_is_not_invented() -> None:
    with pytest.raises(KeyError, match="gateway"):
        upcast(event("io.signalbox.deployment.started.v0", {}))


def test_the_hash_chain_is_over_the_stored_events() -> None:
    """An upcast event has another hash: verifying after upcasting would find every old event forged."""
    follower = event(DeploymentStarted.type(), example(DeploymentStarted).data()).chained(8, EARLY.hash())
    assert follower.previoushash == EARLY.hash()
    assert follower.previoushash != upcast(EARLY).hash()
    assert upcast(EARLY).previoushash == EARLY.previoushash
