"""The user that runs a server that refuses root, and the user's access to its files."""

import logging
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from signalbox.devservers.bound_process import CURRENT_USER, User
from signalbox.devservers.errors import Unavailable
from signalbox.devservers.passage import let_through

CANDIDATES = ("postgres", "nobody")
logger = logging.getLogger("signalbox.devservers")


class _Identity(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class Account:
    """`other`: whether it is not the user of this process."""

    name: str
    uid: int
    gid: int
    other: bool

    @property
    def user(self) -> User:
        return User(self.uid, self.gid) if self.other else CURRENT_USER

    def for_subprocess(self) -> _Identity:
        """Arguments of `subprocess.run` to run as this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.other else {}


def server_account() -> Account:
    """The user of this process, or another one if it is root. Raises Unavailable when there is no other
    user."""
    if os.geteuid() != 0:
        return Account("", os.geteuid(), os.getegid(), other=False)
    for name in CANDIDATES:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, found.pw_uid, found.pw_gid, other=True)
    raise Unavailable(
        f"PostgreSQL refuses to run as root, and there is no user {' or '.join(CANDIDATES)} to run it as: "
        "start as an ordinary user, or name a PostgreSQL of your own in SIGNALBOX_POSTGRES"
    )


def let_reach(account: Account, path: Path) -> None:
    """Lets `account` pass through the folders above `path`, without permission to list them.

    Without access control lists of the file system, all other users may pass too. Only root calls this.
    """
    for folder in path.resolve().parents:
        facts = folder.stat()
        if facts.st_mode & stat.S_IXOTH or (facts.st_uid == account.uid and facts.st_mode & stat.S_IXUSR):
            continue
        if let_through(folder, account.uid):
            logger.info("%s may pass through %s from now on", account.name, folder)
            continue
        folder.chmod(stat.S_IMODE(facts.st_mode) | stat.S_IXOTH)
        logger.warning(
            "others may pass through %s from now on (chmod o+x): PostgreSQL refuses root and runs as %s",
            folder,
            account.name,
        )
