"""Lets one more user pass through a directory, with POSIX access control lists of Linux.

Linux stores a list as an extended attribute: a version, then entries of tag, permissions and id
(linux/posix_acl_xattr.h).
"""

import errno
import os
import stat
import struct
from pathlib import Path

NAME = "system.posix_acl_access"
_VERSION = 2
_ENTRY = struct.Struct("<HHI")
_OWNER, _USER, _GROUP, _NAMED_GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NO_ID = 0xFFFFFFFF
_SEARCH = 1
_NO_LISTS = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})

Entry = tuple[int, int, int]
"""Tag, permissions, id."""


def let_through(directory: Path, uid: int) -> bool:
    """Lets the user pass through `directory` without other permissions; False if lists are not supported.

    Raises OSError.
    """
    if not hasattr(os, "setxattr"):
        return False
    try:
        entries = _entries(directory)
        wanted = with_passage(entries, uid)
        if wanted != entries:
            packed = b"".join(_ENTRY.pack(*entry) for entry in wanted)
            os.setxattr(directory, NAME, struct.pack("<I", _VERSION) + packed)
    except OSError as error:
        if error.errno in _NO_LISTS:
            return False
        raise
    return True


def with_passage(entries: list[Entry], uid: int) -> list[Entry]:
    """The list extended by search permission for the user; no other user gets a permission."""
    kept = [entry for entry in entries if (entry[0], entry[2]) != (_USER, uid) and entry[0] != _MASK]
    own = next((permissions for tag, permissions, id in entries if (tag, id) == (_USER, uid)), 0)
    masks = [permissions for tag, permissions, _ in entries if tag == _MASK]
    # The mask bounds named users and groups, and the owning group: each keeps its effective permissions.
    bounded = [
        (tag, permissions & masks[0] if masks and tag in (_USER, _GROUP, _NAMED_GROUP) else permissions, id)
        for tag, permissions, id in kept
    ]
    own = (own & masks[0] if masks else own) | _SEARCH
    bounded.append((_USER, own, uid))
    mask = 0
    for tag, permissions, _ in bounded:
        mask |= permissions if tag in (_USER, _GROUP, _NAMED_GROUP) else 0
    bounded.append((_MASK, mask, _NO_ID))
    return sorted(bounded, key=lambda entry: (entry[0], entry[2]))


def _entries(directory: Path) -> list[Entry]:
    """The list of `directory`; if it has none, the one equal to its mode."""
    try:
        found = os.getxattr(directory, NAME)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        mode = stat.S_IMODE(directory.stat().st_mode)
        shifts = ((_OWNER, 6), (_GROUP, 3), (_OTHER, 0))
        return [(tag, mode >> shift & 7, _NO_ID) for tag, shift in shifts]
    return [(tag, permissions, id) for tag, permissions, id in _ENTRY.iter_unpack(found[4:])]
