"""What the store knows of commands: the replies to them, by which none is obeyed twice."""

from typing import Final

import msgspec

from agent.known import known
from agent.records import Reply
from agent.store.database import Database

# Entries that were sealed anew keep their number, so the greatest is the last that was said.
_OPEN: Final = """
SELECT e.body FROM reply p JOIN entry e ON e.id = p.entry
WHERE p.state = 'accepted' AND p.entry = (SELECT MAX(entry) FROM reply q WHERE q.id = p.id) ORDER BY p.entry
"""
_decoder: Final = msgspec.json.Decoder(known(Reply))


class ReplyTable:
    """Reads the replies of an open store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def answered(self, command: str) -> bool:
        """Say whether anything was ever said to a command, as long as it could still be heeded."""
        return bool(self._database.rows("SELECT 1 FROM reply WHERE id = ? LIMIT 1", (command,)))

    def open(self) -> list[Reply]:
        """Return the commands that were taken up and are not over, oldest first; each by its last reply."""
        found = []
        for (body,) in self._database.rows(_OPEN):
            try:
                found.append(_decoder.decode(body))
            except msgspec.DecodeError:
                continue  # damaged: `verify` tells
        return found
