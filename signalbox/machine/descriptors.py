"""The limit of open files and sockets of this process."""

import resource

MOST = 1 << 20
"""The maximal limit that is requested: some libraries create tables of this size."""


def raise_limit() -> int:
    """Raises the soft limit of open descriptors to the hard one; returns the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return limit()


def limit() -> int:
    """The current limit of open descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else soft
