"""What a trouble code means, in words: from `dtc.toml` where the code is standard and known, else by its structure."""

import re
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from agent.config import config_dir, read_toml
from agent.errors import ConfigError
from agent.known import known

CODE: Final = re.compile(r"[PCBU][0-3][0-9A-F]{3}")
_MAKER: Final = "defined by the car's maker: look it up in the maker's manual"
_RESERVED: Final = "reserved by the standard; check that the code was read rightly"


class Meaning(NamedTuple):
    """A code in words; `origin` standard, maker or reserved; `known` says that the words are the code's own."""

    text: str
    origin: str
    known: bool


class _Series(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    first: str
    places: list[str]
    texts: list[str]
    skip: int = 0  # numbers between the last text of a place and the first of the next


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    systems: dict[str, str]
    origins: dict[str, str]
    subjects: dict[str, str]
    series: list[_Series]
    codes: dict[str, str]


class Meanings:
    """The texts of one file; raise ConfigError where it is wrong."""

    def __init__(self, path: Path) -> None:
        raw: dict[str, Any] = read_toml(path)
        try:
            file = msgspec.convert(raw, known(_File))
        except msgspec.ValidationError as error:
            raise ConfigError(f"{path}: {error}") from error
        self._file = file
        self.codes = dict(file.codes)
        for series in file.series:
            number = int(series.first[1:])  # families are numbered in decimal
            for place in series.places:
                for text in series.texts:
                    code = f"{series.first[0]}{number:04d}"
                    if code in self.codes:
                        raise ConfigError(f"{path}: {code} is described twice")
                    self.codes[code] = text.format(place=place)
                    number += 1
                number += series.skip
        for code in self.codes:
            if not CODE.fullmatch(code):
                raise ConfigError(f"{path}: '{code}' is no trouble code; they look like P0301")

    def __call__(self, code: str) -> Meaning:
        """Return what `code` ("P0301") means."""
        system = self._file.systems.get(code[:1], "")
        origin = next((told for n in (3, 2) if (told := self._file.origins.get(code[:n]))), "reserved")
        if origin == "maker":
            return Meaning(f"{system}: {_MAKER}", origin, False)
        if code in self.codes:
            return Meaning(self.codes[code], "standard", True)
        if origin == "reserved":
            return Meaning(f"{system}: {_RESERVED}", origin, False)
        subject = self._file.subjects.get(code[:3], system)
        return Meaning(f"{subject}: a standard code without a text here", origin, False)


@cache
def meanings() -> Meanings:
    """Return the texts that came with the product."""
    return Meanings(config_dir() / "dtc.toml")


def meaning(code: str) -> Meaning:
    """Return what `code` ("P0301") means, in one line."""
    return meanings()(code)
