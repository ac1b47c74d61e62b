"""Decides commands to events and outcomes: the envelopes of one transaction of the decider."""

import logging
from dataclasses import dataclass, field
from functools import cache

from pydantic import ValidationError

from commands.decision import Rejection, Request, bounded, rejected
from commands.partition_state import Change, PartitionState
from commands.rules import Decided, decide
from schemas.aggregates.api import Document
from schemas.catalog import COMMANDS
from schemas.codecs.canonical import canonical, digest, sha256_hex
from schemas.envelope import Data, Envelope, MessageKey
from schemas.envelopes import envelope_for
from schemas.message import Command, Event
from schemas.outcome import Complaint, Outcome, pointer
from schemas.upcasting import UnknownSchema, upcast
from streams.decider.head import ChainHead

logger = logging.getLogger("signalbox.decider")

OUTCOME_BYTES = 1_000
"""Approximate size of an outcome without errors."""


@dataclass(slots=True)
class Decisions:
    """Decides commands one after the other and collects the envelopes to write."""

    partition_state: PartitionState
    head: ChainHead
    source: str
    now: str
    """The time of the batch's decisions."""
    first: int
    """The position of the first event."""
    events: list[Envelope] = field(default_factory=list[Envelope])
    changes: list[Change] = field(default_factory=list[Change])
    outcomes: dict[MessageKey, tuple[Envelope, Outcome]] = field(
        default_factory=dict[MessageKey, tuple[Envelope, Outcome]]
    )
    _envelopes: list[Envelope] = field(default_factory=list[Envelope])
    """Those of `outcomes`, and rejections that do not use up their id, in the order of the commands: a client
    that reads its rejection after the outcome of another command of its id takes that one for the answer."""
    again: list[tuple[Envelope, Outcome]] = field(default_factory=list[tuple[Envelope, Outcome]])
    """Commands that were sent again, and their first outcome."""
    dead_letters: list[Envelope] = field(default_factory=list[Envelope])
    """Dead letters of messages that no outcome can name."""
    size: int = 0
    """Estimated bytes of the envelopes."""

    def take(self, envelope: Envelope, before: Outcome | None) -> None:
        """Decides the command in `envelope` unless its id was decided; `before` is the first outcome."""
        decided = self.outcomes.get(envelope.key)
        before = decided[1] if decided else before
        if before is None:
            self.add(envelope)
        elif before.digest == digest(envelope.data):
            self.again.append((envelope, before))
        else:
            self.reject(
                envelope,
                rejected("command-id-reused", "A command of this id and another content was decided before."),
            )

    def reject(self, envelope: Envelope, why: Rejection) -> None:
        """Adds a rejection that does not use up the id."""
        _, written = self._outcome(envelope, why)
        self._envelopes.append(written)

    def dead_letter(self, message: Envelope) -> None:
        """Adds a dead letter."""
        self.dead_letters.append(message)
        self.size += len(message.data["value"]) + OUTCOME_BYTES

    def add(self, envelope: Envelope) -> None:
        """Decides the command in `envelope`; its outcome is found under its id."""
        command = read_command(envelope)
        if isinstance(command, Rejection):
            result: Decided | Rejection = command
        else:
            result = self._decide(envelope, Request(envelope.id, command, envelope.time, envelope.authid))
        outcome, written = self._outcome(envelope, result)
        self.outcomes[envelope.key] = (envelope, outcome)
        self._envelopes.append(written)

    def _decide(self, envelope: Envelope, request: Request[Command]) -> Decided | Rejection:
        decided: Decided | Rejection | None = None
        head, events, size = self.head, len(self.events), self.size
        try:
            decided = decide(request, self.partition_state)
            if isinstance(decided, Decided):
                for subject, event in decided.events:
                    self._append(envelope, subject, event)
                self.changes.extend(decided.changes)
            return decided
        except Exception:
            # A command that a rule cannot handle must not stop the partition: it is rejected.
            logger.exception("command %s (%s) could not be decided", request.id, request.command.type())
            if isinstance(decided, Decided):
                self.partition_state.rollback(decided.changes)
            self.head, self.size = head, size
            del self.events[events:]
            return rejected("cannot-decide", "The command could not be decided; this is a defect.")

    def _append(self, cause: Envelope, subject: str, event: Event) -> None:
        chained = envelope_for(
            event,
            source=self.source,
            subject=subject,
            time=self.now,
            partitionkey=cause.partitionkey,
            cause=cause,
            dataref=_dataref(event),
            sequence=f"{self.head.sequence + 1:020d}",
            authtype=cause.authtype,
            authid=cause.authid,
            previoushash=self.head.hash,
        )
        content = canonical(chained.structured())
        position = self.first + len(self.events)
        self.head = ChainHead(position, self.head.sequence + 1, sha256_hex(content), self.now)
        self.size += len(content)
        self.events.append(chained)

    def _outcome(self, envelope: Envelope, result: Decided | Rejection) -> tuple[Outcome, Envelope]:
        refused = bounded(result) if isinstance(result, Rejection) else None
        self.size += OUTCOME_BYTES
        if refused is not None:
            self.size += sum(len(c.pointer) + len(c.detail) for c in refused.errors)
        done = result if isinstance(result, Decided) else None
        # The data of the outcome as written: making it from the model takes as long as validating it.
        data: Data = {
            "organization": envelope.partitionkey,
            "name": envelope.id,
            "command": envelope.type,
            "subject": done.subject if done else envelope.subject,
            "digest": digest(envelope.data),
            "accepted": done is not None,
            "requested_at": envelope.time,
            "decided_at": self.now,
            "position": self.head.position,
            "events": len(done.events) if done else 0,
            "version": done.version if done else 0,
            "rule": refused.rule if refused else "",
            "message": refused.message if refused else "",
            "errors": [{"pointer": e.pointer, "detail": e.detail} for e in refused.errors] if refused else [],
        }
        outcome = Outcome.of(data)
        return outcome, self._written(envelope, outcome, data)

    def _written(self, command: Envelope, outcome: Outcome, data: Data) -> Envelope:
        return envelope_for(
            outcome,
            source=self.source,
            subject=outcome.subject,
            id=command.id,
            time=outcome.decided_at,
            partitionkey=command.partitionkey,
            cause=command,
            data=data,
        )

    def outcome_envelopes(self, *, again: bool) -> list[Envelope]:
        """The outcomes to write; with `again`, also the first outcomes of commands that were sent again."""
        repeated = self.again if again else ()
        first = [self._written(command, outcome, outcome.data()) for command, outcome in repeated]
        return [*self._envelopes, *first]


def _dataref(event: Event) -> str:
    """The URL of the `document` of an event: documents are not on the log."""
    # `getattr` of a missing attribute is slow on a model, and most events have no document.
    document: object = getattr(event, "document", None) if _may_have_document(type(event)) else None
    if not isinstance(document, Document):
        return ""
    return f"/api/v1/organizations/{event.organization}/documents/{document.sha256}"


@cache
def _may_have_document(event: type[Event]) -> bool:
    return "document" in event.model_fields


def read_command(envelope: Envelope) -> Command | Rejection:
    """The typed command, or why it is invalid."""
    try:
        current = upcast(envelope)
    except UnknownSchema as error:
        # A known family in an unknown version needs another version of Signalbox.
        unknown = str(error) if error.known else f"There is no command {envelope.type!r}."
        return rejected("unknown-command", unknown)
    except KeyError as error:
        return rejected("invalid-command", f"The command, of an older form, lacks {error}.")
    model = COMMANDS.get(current.type)
    if model is None:
        return rejected("unknown-command", f"There is no command {envelope.type!r}.")
    try:
        command = model.of(current.data)
    except ValidationError as error:
        complaints = tuple(
            Complaint(pointer=pointer(e["loc"]), detail=e["msg"])
            for e in error.errors(include_url=False, include_context=False, include_input=False)
        )
        return Rejection("invalid-command", "The command's data is not valid.", complaints)
    if command.organization != envelope.partitionkey:
        return rejected(
            "wrong-partition-key",
            "The partition key of a command is its organization.",
            organization=f"differs from the partition key {envelope.partitionkey!r}",
        )
    return command
