"""`signalbox parked`: the dead letters."""

from collections.abc import Sequence
from shlex import quote
from typing import Any

import click

from signalbox.cli.failure import Failure
from signalbox.cli.http.client import Client, path
from signalbox.cli.http.connection import Connection, connected
from signalbox.cli.http.documents import Document, document, documents
from signalbox.cli.moments import clock
from signalbox.cli.output import OutputFormat, emit, formed, note
from signalbox.cli.tables import cell, table

SECONDS = 600.0
NEWEST = 20
NO_SUBJECT = "-"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def parked() -> None:
    """List, retry or skip dead letters.

    An event that a read model cannot handle is parked (dead-lettered) with the reason, and later events about
    the same subject wait behind it; all others are handled. Retry it when the cause is gone (after an update,
    say), or skip it: it stays on the event log, but the read model never handles it. Both are recorded.

    Commands that could not be read, and whose sender could not be notified, are listed too.
    """


@parked.command("list")
@formed
@connected
def list_(where: Connection, form: OutputFormat) -> int:
    """List dead letters of read models, messages that could not be read, and the decisions about them."""
    client = Client(where)
    waiting = list(client.items(path("parked")))
    entries = documents(client.get(path("parked", "topic"), {"limit": str(NEWEST)}).body["items"])
    if form != "table":
        emit({"items": waiting, "topic": list(entries)}, form)
        return 0
    messages = [e for e in entries if e["kind"] == "parked"]
    done = [e for e in entries if e["kind"] != "parked"]
    if not waiting and not entries:
        note("Nothing is parked.")
    _section("", ["read model", "subject", "position", "waiting", "reason"], [_waiting(w) for w in waiting])
    _section(
        "Messages that could not be handled, the newest first:",
        ["when (utc)", "topic", "position", "bytes", "reason"],
        [_message(m) for m in messages],
    )
    _section(
        "Decisions of operators, the newest first:",
        ["when (utc)", "who", "what", "read model", "subject", "position"],
        [_action(a) for a in done],
    )
    return 0


@parked.command()
@click.argument("read_model")
@click.argument("subject")
@connected
def retry(where: Connection, read_model: str, subject: str) -> int:
    """Have READ_MODEL handle the parked events about SUBJECT again, up to the first that still fails.

    SUBJECT is - for events without one, as the list shows them.
    """
    subject = _given(subject)
    answer = Client(where).ask(
        "POST", path("readmodels", read_model, "parked", "retry"), {"subject": subject}, seconds=SECONDS
    )
    return _print_result(read_model, subject, document(answer.body), "the cause is still there")


@parked.command()
@click.argument("read_model")
@click.argument("subject")
@click.option(
    "--position", metavar="PARTITION:POSITION", help="Skip this event only, as `signalbox parked list` says."
)
@connected
def skip(where: Connection, read_model: str, subject: str, position: str | None) -> int:
    """Skip the first parked event about SUBJECT: READ_MODEL never handles it. The events behind it are
    handled.

    SUBJECT is - for events without one, as the list shows them.
    """
    subject = _given(subject)
    client = Client(where)
    first = _first(client, read_model, subject)
    at = f"{first['partition']}:{first['position']}"
    if position is not None and position != at:
        raise Failure(
            f"the first parked event about {subject!r} is at {at}, not at {position}",
            "`signalbox parked list` shows it",
        )
    asked = {"subject": subject, "partition": first["partition"], "position": first["position"]}
    answer = client.ask("POST", path("readmodels", read_model, "parked", "skip"), asked, seconds=SECONDS)
    click.echo(f"{_shown(subject)}: skipped {first['type']} at {at}")
    return _print_result(read_model, subject, document(answer.body), "the next one cannot be handled either")


def _first(client: Client, read_model: str, subject: str) -> Document:
    for item in client.items(path("parked")):
        if (item["read_model"], item["subject"]) == (read_model, subject):
            return item
    raise Failure(
        f"nothing about {subject!r} is parked at the read model {read_model!r}",
        "`signalbox parked list` lists dead letters",
    )


def _print_result(read_model: str, subject: str, result: Document, why: str) -> int:
    """Prints the result; the exit code, 1 when events still wait."""
    click.echo(f"{_shown(subject)}: {result['taken']} handled by {read_model}, {result['waiting']} waiting")
    if not result["waiting"]:
        return 0
    first = document(result.get("first"))
    raise Failure(
        f"{why}: {first.get('reason', '')}",
        f"`signalbox parked skip {read_model} {quote(_shown(subject))}` skips it",
    )


def _section(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if rows:
        if title:
            click.echo(f"\n{title}")
        click.echo(table(headers, rows))


def _waiting(item: Document) -> list[str]:
    return [
        item["read_model"],
        _shown(item["subject"]),
        _place(item),
        str(item["waiting"]),
        cell(item["reason"]),
    ]


def _message(item: Document) -> list[str]:
    fault = f"{item.get('rule')}: {item.get('reason')}"
    return [clock(item["time"]), str(item.get("topic")), _place(item), str(item.get("size")), cell(fault)]


def _action(item: Document) -> list[str]:
    who = item.get("by") or "-"
    about = str(item.get("about") or "-")
    return [clock(item["time"]), who, item["kind"], str(item.get("name")), about, _place(item)]


def _shown(subject: str) -> str:
    """A subject as the list shows it; `_given` is the inverse."""
    return subject or NO_SUBJECT


def _given(subject: str) -> str:
    return "" if subject == NO_SUBJECT else subject


def _place(item: Any) -> str:
    return f"{item.get('partition')}:{item.get('position')}"
