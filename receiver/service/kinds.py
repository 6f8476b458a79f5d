"""Which commands are a technician's, and which are about whereabouts and people: one table, one right for each side."""

from typing import Final

from sqlalchemy import Connection, select

from receiver import db

# About the box: only technicians ask these, and only they see what came of it.
TECHNICAL: Final = ("doctor", "dtc", "bundle", "log_level", "config", "restart_agent", "restart_dashcam")
# The part of a box that is to start anew -> the command.
RESTARTS: Final = {"agent": "restart_agent", "dashcam": "restart_dashcam"}


def command_behind(connection: Connection, device: str, incident: str) -> str:
    """Return which command a package answers, as its device says; "" where none does."""
    r = db.reply
    of = (r.c.device == device, r.c.incident == incident)
    found = connection.execute(select(r.c.command).where(*of).order_by(r.c.id.desc()).limit(1)).scalar()
    return found or ""
