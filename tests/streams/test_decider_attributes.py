"""Commands with odd or missing context attributes, and listeners that fail: the next command is decided."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.aggregates.organization import DefineOrganization
from schemas.aggregates.project import DefineProject
from schemas.envelope import Envelope
from schemas.identity import utc
from schemas.outcome import Outcome
from schemas.text import faults
from streams.decider.admission import LONGEST_ATTRIBUTE
from tests.streams.decider_cases import Desk, desk, envelope

NEXT = DefineProject(organization="acme", name="next")


def command(**attributes: str) -> Envelope:
    return replace(envelope(DefineOrganization(organization="acme", name="acme"), "odd"), **attributes)


async def the_next_command_is_decided(at: Desk) -> None:
    (outcome,) = await at.decide(envelope(NEXT))
    assert outcome.accepted


@pytest.mark.parametrize("time", ["", "yesterday", "2026-02-30T00:00:00Z", "0001-01-01T00:00:00+14:00"])
async def test_a_command_without_a_usable_time_was_requested_when_it_was_decided(tmp_path: Path, time: str):
    async with desk(tmp_path) as at:
        (outcome,) = await at.decide(command(time=time))
        assert outcome.accepted
        assert outcome.requested_at == outcome.decided_at
        await the_next_command_is_decided(at)


async def test_a_time_in_another_form_is_kept_in_utc(tmp_path: Path):
    async with desk(tmp_path) as at:
        (outcome,) = await at.decide(command(time="2026-11-21T04:30:00+02:00"))
    assert outcome.requested_at == "2026-11-21T02:30:00.000000Z"


@pytest.mark.parametrize(
    "traceparent", ["nonsense", "00-" + "0" * 32 + "-00f067aa0ba902b7-01", "x" * 100_000, "\x00"]
)
async def test_a_traceparent_that_is_none_is_left_out(tmp_path: Path, traceparent: str):
    async with desk(tmp_path) as at:
        (outcome,) = await at.decide(command(traceparent=traceparent))
        assert outcome.accepted
        (event,) = await at.events()
        assert event.traceparent == ""
        await the_next_command_is_decided(at)


@pytest.mark.parametrize("name", ["correlationid", "subject", "type", "authid"])
@pytest.mark.parametrize("value", ["x" * 500_000, "line\nbreak", "\x00", "\u202e"])
async def test_an_attribute_that_history_cannot_carry_is_malformed(tmp_path: Path, name: str, value: str):
    async with desk(tmp_path) as at:
        await at.log.append("commands", [command(**{name: value})])
        records = await at.log.read("commands", 0, 0, 10)
        await at.decider.decide(records, records[-1].position)
        at.position = records[-1].position
        (record,) = await at.log.read("outcomes", 0, 0, 10)
        outcome = Outcome.of(record.envelope.data)
        assert outcome.rule == "malformed"
        assert name in outcome.message
        assert not list(faults(record.envelope.structured()))
        assert len(record.envelope.to_json()) < 10 * LONGEST_ATTRIBUTE
        (organization,) = await at.decide(envelope(DefineOrganization(organization="acme", name="acme")))
        assert organization.accepted
        await the_next_command_is_decided(at)


async def test_text_that_no_event_may_have_is_refused_from_every_sender(tmp_path: Path):
    async with desk(tmp_path) as at:
        await at.decide(command())
        fields = {"organization": "acme", "name": "shop", "display_name": "a\0b", "x\u202e": "\r"}
        asked = envelope(DefineProject(organization="acme", name="shop"))
        (outcome,) = await at.decide(replace(asked, data=fields))
        assert outcome.rule == "invalid-command"
        assert [error.pointer for error in outcome.errors] == ["/x\\u202e", "/display_name", "/x\\u202e"]
        assert not list(faults(outcome.data()))
        await the_next_command_is_decided(at)


async def test_a_listener_that_raises_does_not_stop_deciding(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    def failing(decided: Sequence[tuple[Envelope, Outcome]], seconds: float) -> None:
        raise ValueError("no such tracer")

    failures: list[str] = []
    async with desk(tmp_path) as at:
        listener = at.decider.decided
        at.decider.decided = failing
        at.decider.listener_failed = lambda: failures.append("failed")
        assert await at.decide(command()) == []
        assert failures == ["failed"]
        assert "no such tracer" in caplog.text
        at.decider.decided = listener
        await the_next_command_is_decided(at)
        assert len(await at.events()) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-21T02:30:00.123456Z", "2026-11-21T02:30:00.123456Z"),
        ("2026-11-21t02:30:00z", "2026-11-21T02:30:00.000000Z"),
        ("9999-12-31T23:59:59-23:59", ""),
        ("2026-11-21", ""),
        ("2026-11-21T02:30:00", ""),
        ("٢٠٢٦-11-21T02:30:00Z", ""),
    ],
)
def test_utc_reads_rfc_3339_only(text: str, expected: str):
    assert utc(text) == expected


async def test_the_data_of_an_outcome_is_that_of_its_model(tmp_path: Path):
    async with desk(tmp_path) as at:
        await at.decide(
            command(id="accepted"), replace(command(id="rejected"), data={"organization": "acme"})
        )
        outcomes = await at.log.read("outcomes", 0, 0, 10)
    assert [record.envelope.data["accepted"] for record in outcomes] == [True, False]
    for record in outcomes:
        assert list(Outcome.of(record.envelope.data).data().items()) == list(record.envelope.data.items())
