"""What boxes answered about themselves is kept for some months: logs are of use while a fault is looked for."""

from collections.abc import Callable
from typing import Final

from sqlalchemy import Engine, and_, select

from agent.clock import NS_PER_S
from receiver import access, db, packages
from receiver.access import Look
from receiver.filestore import FileStore
from receiver.service.kinds import TECHNICAL

BY: Final = "retention"
DAY_NS: Final = 86_400 * NS_PER_S


def drop_old(
    engine: Engine, files: FileStore, days: int, now_ns: int, stopped: Callable[[], bool] = lambda: False
) -> int:
    """Delete the files of technical answers past their days (0: none), and return how many answers that were.

    The replies stay: who asked, why, and what came of it. Raise OSError where the store refuses; legal again.
    """
    if not days:
        return 0
    r, s = db.reply, db.package_state
    same = and_(r.c.device == s.c.device, r.c.incident == s.c.incident)
    old = (r.c.command.in_(TECHNICAL), r.c.received_utc_ns <= now_ns - days * DAY_NS)
    with db.reading(engine) as connection:
        query = select(s.c.device, s.c.incident).select_from(s.join(r, same)).where(*old).distinct()
        rows = connection.execute(query.order_by(s.c.device, s.c.incident)).all()
    gone = 0
    for device, incident in rows:
        if stopped():
            break
        packages.remove(engine, files, device, incident)
        gone += 1
    if gone:
        access.append(engine, Look(BY, "", "", "", "erasure", f"answers {gone}"), now_ns)
    return gone
