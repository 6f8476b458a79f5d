"""Where the local socket is: one rule for the daemon and everybody who asks it (docs/decisions/0280)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SOCKET: Final = "agent.sock"
STORE: Final = Path("/var/lib/roadwitness")  # of an installed box: closed to everybody but the agent …
RUN: Final = Path("/run/roadwitness")  # … so its socket is here, for the group roadwitness (RuntimeDirectory=)
_MOST: Final = 107  # bytes of a path in sockaddr_un (unix(7): sun_path[108] with its end)


def socket_path(folder: Path) -> Path:
    """Return the socket of the daemon whose store is in `folder`: beside the store, or in RUN for the installed one."""
    return (RUN if folder == STORE else folder) / SOCKET


@contextmanager
def short(path: Path) -> Iterator[str]:
    """Give a name for `path` that fits into a socket's address, however deep its folder lies; raise OSError."""
    if len(os.fsencode(path)) <= _MOST:
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
