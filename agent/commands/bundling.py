"""The command `bundle`: the support bundle, made while the daemon runs; it goes as a file of a signed package."""

from typing import Final

from agent.commandmessages import BundleArguments
from agent.commands.reading import Found
from agent.house import House
from agent.store import Store
from agent.support.bundle import make
from agent.support.parts import Source

FILE: Final = "support.zip"
# Of each log, before it is packed to a tenth: a bundle of some 200 KB goes over a slow link in a minute.
LOG_BYTES: Final = 512 * 1024


class Bundling:
    """Makes bundles of the box whose daemon it runs in."""

    def __init__(self, store: Store, house: House) -> None:
        self._store = store
        self._house = house

    def read(self, wanted: BundleArguments) -> Found:
        """Return the bundle."""
        source = Source(self._house.folder, self._house.config, LOG_BYTES)
        made = make(source, self._store, with_position=wanted.with_position)
        lacking = f"; without {', '.join(made.missing)}" if made.missing else ""
        return Found({FILE: made.data}, f"{len(made.files)} files, {len(made.data) // 1024} KB{lacking}")
