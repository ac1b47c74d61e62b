"""Which outcome is the answer to which command."""

import pytest

from schemas.codecs.canonical import digest
from schemas.outcome import UNREADABLE, Outcome
from signalbox_client.answers import REFUSALS, answering

OURS, OTHER = digest({"name": "shop"}), digest({"name": "other"})
UNREAD = digest({})


def outcome(rule: str, of: str) -> Outcome:
    return Outcome(
        organization="acme",
        name="id",
        command="io.signalbox.project.command.define.v1",
        subject="organizations/acme/projects/shop",
        digest=of,
        accepted=not rule,
        requested_at="2026-11-21T09:30:00Z",
        decided_at="2026-11-21T09:30:00Z",
        position=1,
        rule=rule,
    )


@pytest.mark.parametrize("rule", sorted(UNREADABLE))
def test_a_rejection_of_another_command_with_our_id_is_not_the_answer_to_ours(rule: str) -> None:
    assert answering(outcome(rule, OTHER), OURS) is None


@pytest.mark.parametrize("rule", sorted(UNREADABLE))
@pytest.mark.parametrize("of", [OURS, ""], ids=["its data", "not given"])
def test_a_rejection_of_our_command_is_its_answer(rule: str, of: str) -> None:
    assert answering(outcome(rule, of), OURS) == outcome(rule, of)


@pytest.mark.parametrize(
    ("rule", "ours"), [("unknown-schema", True), ("too-large", True), ("malformed", False)]
)
def test_of_data_that_the_decider_did_not_read_ours_may_be_too_new_or_too_large_and_never_malformed(
    rule: str, ours: bool
) -> None:
    assert (answering(outcome(rule, UNREAD), OURS) is not None) == ours


def test_a_rejection_is_the_answer_to_a_command_whose_data_is_not_known_here() -> None:
    assert answering(outcome("unauthorized", OTHER), "") is not None


def test_a_command_that_was_too_large_may_be_sent_again_under_its_id() -> None:
    assert REFUSALS == UNREADABLE
