"""The kinds of resources, from the catalog of aggregates."""

import difflib

import click

from schemas.aggregate import Aggregate
from schemas.catalog import AGGREGATES, BY_NAME, BY_PLURAL


def kind(given: str) -> Aggregate:
    """The aggregate by its singular or plural, in any case. Raises click.UsageError."""
    name = given.lower()
    found = BY_PLURAL.get(name) or BY_NAME.get(name)
    if found is not None:
        return found
    near = difflib.get_close_matches(name, [*BY_PLURAL, *BY_NAME], 1)
    if near:
        raise click.UsageError(f"there is no kind {given!r}; did you mean {near[0]!r}?")
    raise click.UsageError(f"there is no kind {given!r}; there are {', '.join(a.plural for a in AGGREGATES)}")
