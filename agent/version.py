"""Which version of the product this is."""

from importlib.metadata import PackageNotFoundError, version
from typing import Final

NOT_INSTALLED: Final = "not installed"


def installed_version() -> str:
    """Return the installed version; `NOT_INSTALLED` where the program runs from a bare checkout."""
    try:
        return version("roadwitness")
    except PackageNotFoundError:
        return NOT_INSTALLED
