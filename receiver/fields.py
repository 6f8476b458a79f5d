"""Fields of forms: what was typed, read into numbers and days; what cannot be read is told beside its field."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any, Final

MOST_TYPED: Final = 200  # characters of one short field
_GROUPS: Final = str.maketrans("", "", ",,   ")  # of digits, as people write them


@dataclass(frozen=True, slots=True)
class Field:
    """One field as the page shows it; `kind` is select, number, date, text, area, check, time or file."""

    name: str
    label: str
    kind: str = "text"
    value: str = ""
    options: Sequence[tuple[str, str]] = ()
    hint: str = ""
    error: str = ""
    required: bool = False
    low: str = ""
    high: str = ""
    step: str = ""
    most: int = MOST_TYPED
    accept: str = ""

    @property
    def id(self) -> str:
        """Return what the label points at."""
        return "f-" + "".join(c if c.isalnum() else "-" for c in self.name)


@dataclass(slots=True)
class Typed:
    """What somebody typed, by name; `errors` are keys of words by field, filled while it is read."""

    values: Mapping[str, Sequence[str]]
    errors: dict[str, str] = field(default_factory=dict)

    def text(self, name: str, most: int = MOST_TYPED) -> str:
        """Return a text without blanks around it, cut at `most` characters."""
        given = self.values.get(name, ())
        return given[-1].strip()[:most] if given else ""

    def listed(self, name: str) -> list[str]:
        """Return every value of a name, each once."""
        return list(dict.fromkeys(v.strip()[:MOST_TYPED] for v in self.values.get(name, ()) if v.strip()))

    def checked(self, name: str) -> bool:
        """Say whether a box is ticked."""
        return bool(self.text(name))

    def number(self, name: str) -> Decimal | None:
        """Return a number, None where the field is empty; note what is none."""
        said = self.text(name)
        if not said:
            return None
        try:
            value = Decimal(said.translate(_GROUPS))
        except InvalidOperation:
            self.errors[name] = "number"
            return None
        if not value.is_finite():
            self.errors[name] = "number"
            return None
        return value

    def whole(self, name: str) -> int | None:
        """Return a whole number of at most 12 digits, None where the field is empty; note what is none."""
        value = self.number(name)
        if value is None:
            return None
        if abs(value) >= 10**12 or value != value.to_integral_value():
            self.errors[name] = "whole"
            return None
        return int(value)

    def day(self, name: str) -> date | None:
        """Return a day, None where the field is empty; note what is none."""
        said = self.text(name)
        if not said:
            return None
        try:
            return date.fromisoformat(said)
        except ValueError:
            self.errors[name] = "day"
            return None


def typed(pairs: Iterable[tuple[str, Any]]) -> Typed:
    """Gather what a form sent, as pairs of name and value; files are left out."""
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        if isinstance(value, str):
            values.setdefault(name, []).append(value)
    return Typed(values)
