"""What leads from page to page, by role. An entry is shown where its page is there."""

from collections.abc import Collection
from typing import Final, NamedTuple

from receiver.people.person import Person
from receiver.people.rights import ADJUSTER, OWNER, TECHNICIAN, UNDERWRITER


class Entry(NamedTuple):
    """One entry: its word is `menu.KEY`; it is the current one on its path, below it and below `also`."""

    key: str
    path: str
    also: tuple[str, ...] = ()


ACCOUNT: Final = "/account"
# role -> its pages, the first of them is where it begins
NAV: Final[dict[str, tuple[Entry, ...]]] = {
    OWNER: (
        Entry("cars", "/", ("/vehicles",)),
        Entry("score", "/score"),
        Entry("quote", "/quote"),
        Entry("policies", "/policies"),
        Entry("claims", "/claims"),
        Entry("consent", "/consent"),
    ),
    ADJUSTER: (Entry("claims", "/claims"), Entry("disputes", "/disputes")),
    UNDERWRITER: (
        Entry("portfolio", "/portfolio", ("/score",)),
        Entry("quotes", "/quotes", ("/quote",)),
        Entry("regimes", "/regimes"),
        Entry("backtest", "/backtest"),
        Entry("renewals", "/renewals"),
        Entry("figures", "/figures"),
    ),
    TECHNICIAN: (Entry("devices", "/devices"), Entry("bindings", "/bindings")),
}


class Shown(NamedTuple):
    """An entry on a page."""

    key: str
    path: str
    current: bool


def entries(person: Person, paths: Collection[str], here: str) -> list[Shown]:
    """Return a person's entries of which the pages are there."""
    return [Shown(e.key, e.path, _within(here, e)) for e in NAV[person.role] if e.path in paths]


def start(person: Person, paths: Collection[str]) -> str:
    """Return the page at which a person begins."""
    return next((e.path for e in NAV[person.role] if e.path in paths), ACCOUNT)


def _within(here: str, entry: Entry) -> bool:
    if here == entry.path:
        return True
    below = (*entry.also, *((entry.path,) if entry.path != "/" else ()))
    return any(here == path or here.startswith(f"{path}/") for path in below)
