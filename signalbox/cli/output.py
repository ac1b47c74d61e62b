"""`-o`: tables for people, JSON and YAML for programs."""

import sys
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import click

OutputFormat = Literal["table", "json", "yaml"]
F = TypeVar("F", bound=Callable[..., Any])


def formed(command: F) -> F:
    """Adds `-o`."""
    return click.option(
        "-o",
        "--output",
        "form",
        type=click.Choice(["table", "json", "yaml"]),
        default="table",
        show_default=True,
        help="The output format.",
    )(command)


def emit(value: Any, form: OutputFormat) -> None:
    """Prints a document as JSON or YAML, with keys in the server's order."""
    if form == "json":
        import orjson

        click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
    else:
        import yaml

        click.echo(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), nl=False)


def note(text: str) -> None:
    """Prints a remark to standard error, beside the result."""
    click.echo(text, err=True)


def on_terminal() -> bool:
    return sys.stderr.isatty()
