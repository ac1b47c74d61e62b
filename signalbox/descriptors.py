"""How many files and sockets this process may have open."""

import resource

MOST = 1 << 20
"""More is not asked for, even where there is no limit: some libraries make tables of this size."""


def raise_limit() -> int:
    """Raises the soft limit of open descriptors to the hard one; what the limit is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return limit()


def limit() -> int:
    """How many descriptors may be open now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else soft
