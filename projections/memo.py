"""Results that are computed once per arguments, whichever thread asks first.

`functools.lru_cache` lets two threads that miss at the same time compute twice, and each keeps its own
result. Two SQLAlchemy `Table` objects of one name are two tables to SQLAlchemy: mixed in one statement
they are named twice in its FROM clause, which PostgreSQL refuses (42712).
"""

from collections.abc import Callable
from functools import lru_cache, wraps
from threading import RLock
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_LOCK = RLock()
"""One for all: what is computed asks for other results, and one lock cannot be taken in two orders."""


def computed_once(maxsize: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Keeps up to `maxsize` results, the least recently used of which goes first.

    Arguments must be hashable. All callers get the same object while it is kept.
    """

    def decorate(compute: Callable[P, R]) -> Callable[P, R]:
        kept = lru_cache(maxsize=maxsize)(compute)

        @wraps(compute)
        def ask(*args: P.args, **kwargs: P.kwargs) -> R:
            with _LOCK:
                return kept(*args, **kwargs)

        return ask

    return decorate
