"""What root does in another user's folder it does as that user: a link that lies there leads root nowhere."""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def as_owner(folder: Path) -> Iterator[None]:
    """Work with no more than the rights of who owns `folder`, where we are root; files made meanwhile are the owner's.

    Of a folder that is still to be made the owner is that of the one above it. The rights are those of the whole
    process: no other thread may need root's meanwhile.
    """
    folder = folder.absolute()
    of = next(each for each in (folder, *folder.parents) if each.exists()).stat()
    if os.geteuid() != 0 or of.st_uid == 0:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    try:
        os.setgroups(_groups(of.st_uid, of.st_gid))
        os.setegid(of.st_gid)
        os.seteuid(of.st_uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def _groups(user: int, group: int) -> list[int]:
    try:
        return os.getgrouplist(pwd.getpwuid(user).pw_name, group)
    except KeyError:  # a folder of a user whom this machine does not know, as on a card from another box
        return [group]
