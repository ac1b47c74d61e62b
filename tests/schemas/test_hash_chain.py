"""The event log is provable: these hashes were computed once and must never change by accident.

If one of these changes, every event log written so far stops verifying.
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given

from schemas.codecs.canonical import canonical, digest
from schemas.envelope import ATTRIBUTES, GENESIS, Envelope
from tests.schemas.envelopes import envelopes
from tests.schemas.sdk_events import from_json

PLAIN = Envelope(
    id="01936f8e-6b00-7000-8000-000000000001",
    type="io.signalbox.organization.defined.v1",
    source="/signalbox",
    subject="organizations/acme",
    time="2026-11-21T02:30:00.000000Z",
    partitionkey="acme",
    data={"organization": "acme", "name": "acme", "display_name": "Acme"},
)
FULL = Envelope(
    **{name: f"{name}-é€😀" for name in ATTRIBUTES},
    data={
        "z": [1, -1, 0, 2**53, 0.5, 1e21, 1e-7, True, False, None],
        "a": {"ü": "\u2028\t\"\\/", "": {}, "A": [], "aa": ""},
    },
)  # fmt: skip


def chain(events: Sequence[Envelope]) -> list[Envelope]:
    chained: list[Envelope] = []
    previous = GENESIS
    for number, event in enumerate(events, 1):
        chained.append(event.chained(number, previous))
        previous = chained[-1].hash()
    return chained


def broken_at(events: Sequence[Envelope]) -> int | None:
    """The number of the first event that does not follow from the one before it."""
    previous = GENESIS
    for number, event in enumerate(events, 1):
        if event.previoushash != previous or event.sequence != f"{number:020d}":
            return number
        previous = event.hash()
    return None


REGISTER = chain([replace(PLAIN, id=f"e{n}") for n in range(1, 6)])


@pytest.mark.parametrize(
    ("envelope", "hash_"),
    [
        (PLAIN, "99f25234d27f506ecbdceaa733c54493cc2df2a9167acb50c605d879fd7e138f"),
        (FULL, "25121f53ca5ee30b4fa90eb86d275f034b9d6651e7bdd3d72d2e7f6da594001f"),
        (PLAIN.chained(1, GENESIS), "757638eaedb3a51640b2f5ae9e38669643f2a9211c067fbb9e165e0becc9845c"),
        (REGISTER[-1], "5facd5e7d097ea49ccb2b47ba1295d358038b026c212a55375debdab27dc729e"),
    ],
    ids=["plain", "every attribute", "first of a partition", "fifth of a partition"],
)
def test_golden_hashes(envelope: Envelope, hash_: str) -> None:
    assert envelope.hash() == hash_


def test_the_canonical_form() -> None:
    assert canonical(PLAIN.structured()) == (
        b'{"data":{"display_name":"Acme","name":"acme","organization":"acme"},'
        b'"datacontenttype":"application/json","id":"01936f8e-6b00-7000-8000-000000000001",'
        b'"partitionkey":"acme","source":"/signalbox","specversion":"1.0","subject":"organizations/acme",'
        b'"time":"2026-11-21T02:30:00.000000Z","type":"io.signalbox.organization.defined.v1"}'
    )


def test_an_untouched_register_verifies() -> None:
    assert broken_at(REGISTER) is None


CHANGES: list[tuple[str, Any]] = [
    *((name, "forged") for name in ATTRIBUTES if name not in ("sequence", "previoushash")),
    ("data", {**PLAIN.data, "display_name": "Evil"}),
]


@pytest.mark.parametrize(("attribute", "value"), CHANGES, ids=[name for name, _ in CHANGES])
def test_a_changed_event_is_found_at_its_follower(attribute: str, value: Any) -> None:
    forged = list(REGISTER)
    forged[2] = replace(forged[2], **{attribute: value})
    assert broken_at(forged) == 4


def test_left_out_reordered_and_inserted_events_are_found() -> None:
    assert broken_at(REGISTER[1:]) == 1
    assert broken_at([*REGISTER[:2], *REGISTER[3:]]) == 3
    assert broken_at([REGISTER[0], REGISTER[2], REGISTER[1], *REGISTER[3:]]) == 2
    assert broken_at([*REGISTER[:2], REGISTER[1], *REGISTER[2:]]) == 3


def test_a_forger_must_rewrite_everything_after() -> None:
    forged = chain([*REGISTER[:2], replace(REGISTER[2], id="forged"), *REGISTER[3:]])
    assert broken_at(forged) is None
    assert forged[-1].hash() != REGISTER[-1].hash()


@given(envelopes())
def test_every_attribute_and_the_data_count(envelope: Envelope) -> None:
    for field in fields(Envelope):
        changed: Any = {**envelope.data, "more": 1} if field.name == "data" else "forged"
        assert replace(envelope, **{field.name: changed}).hash() != envelope.hash()


@given(envelopes())
def test_the_hash_survives_storage_and_does_not_depend_on_key_order(envelope: Envelope) -> None:
    assert from_json(envelope.to_json()).hash() == envelope.hash()
    backwards = replace(envelope, data=dict(reversed(list(envelope.data.items()))))
    assert backwards.hash() == envelope.hash()


def test_digest_is_sha256_of_the_canonical_form() -> None:
    assert digest({"b": 1, "a": "é"}) == "aa58fba8483623bed37c1b02edfccbdd9a53123837c20bfa4cb4049993a2872e"
