"""Replaces itself by another program that ends with its parent. Run as a script, outside of the project:

    python -I -S exec_bound.py PARENT SIGNAL UID GID PROGRAM [ARGUMENT…]

`SIGNAL` is sent when the thread that started this ends. `UID` and `GID` of -1 keep the user and group.
It is a separate program because Python code between fork and exec of a process with threads can deadlock.
"""

import os
import signal
import sys
from typing import Any

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    parent, how, uid, gid = (int(word) for word in arguments[:4])
    program = arguments[4:]
    # Before the change of user: the new user may have no access to the interpreter's files.
    libc = _libc()
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if libc is not None:
        # After the change of user, which resets it.
        libc.prctl(PR_SET_PDEATHSIG, how, 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
    try:
        os.execv(program[0], program)
    except OSError as error:
        sys.exit(f"{program[0]} cannot be run: {error.strerror}")


def _libc() -> Any:
    """None where the kernel cannot do it."""
    if sys.platform != "linux":
        return None
    import ctypes

    return ctypes.CDLL(None)


if __name__ == "__main__":
    main(sys.argv[1:])
