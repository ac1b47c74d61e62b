"""`signalbox apply`."""

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any

import click

from signalbox.cli.failure import DONE, FAILED, Failure
from signalbox.cli.http.client import Client, NoAnswer, Refused
from signalbox.cli.http.connection import Connection, connected
from signalbox.cli.http.documents import Document
from signalbox.cli.operations.token_file import TokenFile, token_line
from signalbox.cli.output import OutputFormat, emit, formed, note
from signalbox.cli.progress import Progress
from signalbox.cli.resources.applied import Tally, finding, outcome, problem_text
from signalbox.cli.resources.deploy import CONNECT, Waiting, again_text, refusers
from signalbox.cli.resources.facts import no_node, reason, refusal, timeline, unchanged, wait_for
from signalbox.cli.resources.live import keeps_serving
from signalbox.cli.resources.reading import target as target_of
from signalbox.cli.resources.sources import Source, Unreadable, batches, invalid, sources

IN_FLIGHT = 2
SECONDS = 300.0


@click.command()
@click.option(
    "-f", "--file", "files", multiple=True, required=True, metavar="FILE|DIR|-", help="Files to apply."
)
@click.option("--deploy", is_flag=True, help="Deploy the APIs too, and wait until they are acknowledged.")
@click.option("--to", metavar="GATEWAY|ENVIRONMENT", help="The target of --deploy. [default: local]")
@click.option(
    "--timeout",
    type=float,
    default=30.0,
    show_default=True,
    help="Seconds to wait for the next answer of a gateway.",
)
@click.option(
    "--token-file",
    metavar="FILE",
    help="Write the token of a new gateway to this file, readable for its owner only, instead of "
    "printing it. An existing file is never overwritten.",
)
@formed
@connected
def apply(
    where: Connection,
    files: tuple[str, ...],
    deploy: bool,
    to: str | None,
    timeout: float,
    token_file: str | None,
    form: OutputFormat,
) -> int:
    """Create or change the resources that files define. Nothing is ever deleted.

    Folders are read recursively (*.yaml, *.yml, *.json); `-` is standard input. Invalid files are listed with
    all findings, and the others are applied. The token of a new gateway is printed once (with -o json as
    `token` of its item) or written to --token-file; the server does not store it.
    """
    if to is not None and not deploy:
        raise click.UsageError("--to is the target of --deploy: give --deploy too")
    began = time.monotonic()
    found = sources(files, sys.stdin.buffer)
    client = Client(where)
    target = target_of(client, to or "local", then="; nothing was applied") if deploy else None
    tally = Tally()
    items: list[Document] = []
    unanswered: list[int] = []
    kept = TokenFile(token_file) if token_file is not None else None
    try:
        with Progress("applying", len(found)) as progress:
            for read, answered in _sent(client, found, target, unanswered):
                for item in map(dict, answered):
                    if kept is not None:
                        kept.take(item)
                    items.append(item)
                    tally.count(item)
                    if warning := tally.twice(item):
                        progress.echo(warning, err=True)
                    if form == "table":
                        _print_item(item, progress)
                progress.advance(read)
    except Failure:
        note(_interrupted(tally.sentence(time.monotonic() - began) if items else "", sum(unanswered)))
        _emit(items, form)  # it holds tokens, which are shown only once
        raise
    finally:
        if kept is not None and (remark := kept.close()):
            note(remark)
    try:
        if target is not None:
            _await(client, items, tally, timeout, form)
    finally:
        _emit(items, form)
    note(tally.sentence(time.monotonic() - began))
    return FAILED if tally.bad else DONE


def _interrupted(applied: str, unanswered: int) -> str:
    """What was applied before an error, and how many documents may have been, without an answer."""
    if not unanswered:
        done = f"{applied} before the error" if applied else "Nothing was applied"
        return f"{done}. Fix this, then run apply again."
    some = f"{unanswered} document{'s' if unanswered > 1 else ''} got no answer and may have been applied"
    done = f"{applied} before the error; {some}" if applied else some[0].upper() + some[1:]
    return f"{done}. Fix this, then run apply again: it changes only what differs."


def _emit(items: Sequence[Document], form: OutputFormat) -> None:
    if form != "table":
        emit({"items": items}, form)


def _sent(
    client: Client, found: Sequence[Path | Source], target: dict[str, str] | None, unanswered: list[int]
) -> Iterator[tuple[int, Sequence[Document]]]:
    """The number of sources and the results of the documents of each batch, in order. Adds the documents of
    a request that may have been handled to `unanswered`. Raises Failure."""
    where = client.organization("apply")
    waiting: deque[tuple[int, Sequence[Document], Future[Sequence[Document]] | None]] = deque()

    def send(documents: Sequence[Document]) -> Sequence[Document]:
        body: dict[str, Any] = {"documents": documents, "deploy": target}
        try:
            items: Sequence[Document] = client.ask("POST", where, body, seconds=SECONDS).body["items"]
        except NoAnswer:
            unanswered.append(len(documents))
            raise
        except Refused as refused:
            if refused.status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE or len(documents) > 1:
                raise
            return [invalid(documents[0]["source"], {"detail": refused.message})]
        return items

    with ThreadPoolExecutor(IN_FLIGHT, "apply") as threads:
        try:
            for batch in batches(found):
                documents = [{"source": s.name, "content": s.content} for s in batch if isinstance(s, Source)]
                unreadable = [s.item() for s in batch if isinstance(s, Unreadable)]
                sent = threads.submit(send, documents) if documents else None
                waiting.append((len(batch), unreadable, sent))
                if len(waiting) >= IN_FLIGHT:
                    yield _received(*waiting.popleft())
            while waiting:
                yield _received(*waiting.popleft())
        except Failure:
            threads.shutdown(cancel_futures=True)
            yield from _answered(waiting)
            raise
        finally:
            threads.shutdown(cancel_futures=True)


def _answered(
    waiting: Iterable[tuple[int, Sequence[Document], "Future[Sequence[Document]] | None"]],
) -> Iterator[tuple[int, Sequence[Document]]]:
    """The answers to requests that were in flight when another one failed."""
    for size, unreadable, sent in waiting:
        if sent is not None and not sent.cancelled() and sent.exception() is None:
            yield size, [*unreadable, *sent.result()]


def _received(
    size: int, unreadable: Sequence[Document], sent: "Future[Sequence[Document]] | None"
) -> tuple[int, Sequence[Document]]:
    return size, [*unreadable, *(sent.result() if sent else ())]


def _print_item(item: Document, progress: Progress) -> None:
    findings = item.get("findings") or ()
    for one in findings:
        progress.echo(finding(item, one), err=True)
    if (problem := item.get("problem")) and not findings:
        progress.echo(problem_text(item, problem), err=True)
    progress.echo(outcome(item))
    if line := token_line(item):
        progress.echo(line)


def _await(
    client: Client, items: Sequence[Document], tally: Tally, patience: float, form: OutputFormat
) -> None:
    """Waits until every deployment is acknowledged or refused, and prints each result."""
    deployed = {item["deployment"]: item for item in items if item.get("deployment")}
    with Progress("deploying", len(deployed)) as progress:

        def settled(name: str, known: Document) -> None:
            item = deployed[name]
            item["status"] = known
            label = _label(item)
            tally.settled(known["state"])
            again = again_text(name) if item.get("deployment_result") == "unchanged" else ""
            if known["state"] == "refused":
                kept = "".join(f"; {what}" for what in keeps_serving({**item, "api": item["name"]}, known))
                progress.echo(
                    f"refused    {label}: by {refusers(known)}: {reason(known)}{kept}{again}", err=True
                )
            elif known["state"] == "partly-refused":
                progress.echo(f"refused    {label}: by some nodes: {refusal(known)}{again}", err=True)
            elif form == "table" and item.get("deployment_result") == "unchanged":
                progress.echo(f"{known['state']:<10} {label}: {unchanged(known)}")
            elif form == "table":
                progress.echo(f"{known['state']:<10} {label}: {timeline(known)}")
            progress.advance(1)

        waiting = Waiting(lambda sentence: progress.echo(sentence, err=True))
        late = wait_for(client, list(deployed), patience, settled, waiting)
        tally.late += len(late)
        for name in late:
            item = deployed[name]
            offline = no_node(waiting.known.get(name, {}))
            why = f"{offline[0]}; {CONNECT}" if offline else f"see `signalbox describe deployment {name}`"
            progress.echo(f"late       {_label(item)}: no answer for {patience:g} s; {why}", err=True)


def _label(item: Document) -> str:
    revision = item.get("revision")
    return f"{item['name']} revision {revision}" if revision else str(item["name"])
