"""`signalbox version`."""

import importlib.metadata
import platform

import click


@click.command()
def version() -> int:
    """Print the version of Signalbox and of the Python it runs on."""
    try:
        number = importlib.metadata.version("signalbox")
    except importlib.metadata.PackageNotFoundError:
        number = "(not installed)"
    click.echo(f"signalbox {number} (Python {platform.python_version()})")
    return 0
