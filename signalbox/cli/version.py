"""`signalbox version`."""

import importlib.metadata
import platform

import click


@click.command()
def version() -> int:
    """Print the versions of Signalbox and Python."""
    try:
        number = importlib.metadata.version("signalbox")
    except importlib.metadata.PackageNotFoundError:
        number = "(not installed)"
    click.echo(f"signalbox {number} (Python {platform.python_version()})")
    return 0
