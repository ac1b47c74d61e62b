"""Errors of commands that were not accepted, and the check that an outcome belongs to a command."""

from schemas.codecs.canonical import digest as digest_of
from schemas.outcome import UNREADABLE, Complaint, Outcome

REUSED = "command-id-reused"

REFUSALS = UNREADABLE
"""Rules of rejections that do not use up the id: the corrected command may be sent again with it."""

_UNREAD = digest_of({})
"""The digest in the outcome of a command whose data the decider did not read."""


class MessageTooLarge(Exception):
    """The command is larger than Signalbox accepts; it was not sent. Names the size and the limit."""


class ClientError(Exception):
    """A command was not accepted, or its outcome is not known. `id` is the command's."""

    def __init__(self, id: str, text: str) -> None:
        super().__init__(text)
        self.id = id


class Rejected(ClientError):
    """The command was rejected: sending it again unchanged changes nothing.

    `rule` is a name that never changes, `message` a sentence; `errors` locate faults by JSON pointers.
    """

    def __init__(self, id: str, rule: str, message: str, errors: tuple[Complaint, ...] = ()) -> None:
        places = "".join(f"; {e.pointer or '/'}: {e.detail}" for e in errors)
        super().__init__(id, f"{message} ({rule}{places})")
        self.rule = rule
        self.message = message
        self.errors = errors


class NoAnswer(ClientError):
    """No outcome arrived in time. The command may have been decided: send it again with the same id, and it
    is decided once."""

    def __init__(self, id: str, reason: str) -> None:
        super().__init__(
            id, f"no answer for the command {id}: {reason}. It may be sent again with the same id."
        )
        self.reason = reason


def accepted(outcome: Outcome) -> Outcome:
    """Returns the outcome of an accepted command. Raises Rejected."""
    if not outcome.accepted:
        raise Rejected(outcome.name, outcome.rule, outcome.message, outcome.errors)
    return outcome


def answering(outcome: Outcome, digest: str) -> Outcome | None:
    """The outcome of our command, whose data has this digest (empty when not known).

    None when `outcome` belongs to another sender's command with the same id.
    """
    if outcome.rule in REFUSALS:
        same = {"", digest} if outcome.rule == "malformed" else {"", digest, _UNREAD}
        return outcome if not digest or outcome.digest in same else None
    if outcome.rule == REUSED:
        return outcome if digest and outcome.digest == digest else None
    if not digest or not outcome.digest or outcome.digest == digest:
        return outcome
    return outcome.model_copy(
        update={
            "accepted": False,
            "rule": REUSED,
            "message": "A command of this id and another content was decided before.",
            "digest": digest,
            "errors": (),
        }
    )
