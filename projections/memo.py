"""A cache of results that computes each one once, also when several threads need it at the same time.

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
"""One lock for all caches: a computation may need other results, and several locks could deadlock."""


def computed_once(maxsize: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Caches up to `maxsize` results; the least recently used one is dropped first.

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
