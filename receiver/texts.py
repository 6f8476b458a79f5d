"""The words of the pages: a folder of TOML files per language with the same keys in each language.

The language is chosen by query, cookie or Accept-Language.
"""

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

# our short name -> the tag that browsers and screen readers know
LANGUAGES: Final = {"en": "en", "zh": "zh-CN"}
FALLBACK: Final = "en"
_FOLDER: Final = Path(__file__).parent / "text"


class Text:
    """The words of one language; a key that is not there is a bug and raises KeyError."""

    def __init__(self, language: str, words: Mapping[str, Any]) -> None:
        self.language = language
        self.tag = LANGUAGES[language]
        self._words = words

    def __call__(self, key: str, /, **values: object) -> str:
        """Return the sentence `key` with `values` put in."""
        return str(self._words[key]).format(**values) if values else str(self._words[key])

    def many(self, key: str, n: int, shown: str = "") -> str:
        """Return the sentence `key` for `n` things, written as `shown` where that is given."""
        return self(f"{key}.one" if n == 1 else f"{key}.other", n=shown or f"{n:,}")

    def among(self, key: str, name: str) -> str:
        """Return the word for `name` in the table `key`, or the name itself: records may be newer than the words."""
        return str(self._words.get(f"{key}.{name}", name))

    def listed(self, key: str) -> list[str]:
        """Return a list of words."""
        return list(self._words[key])

    def names(self) -> set[str]:
        """Return all keys."""
        return set(self._words)


@cache
def text(language: str) -> Text:
    """Return the words of a language, one of LANGUAGES; a key that stands in two files is a bug: ValueError."""
    words: dict[str, Any] = {}
    for path in sorted((_FOLDER / language).glob("*.toml")):
        for key, value in flat(tomllib.loads(path.read_text(encoding="utf-8")), ""):
            if key in words:
                raise ValueError(f"{path}: {key} stands in another file too")
            words[key] = value
    return Text(language, words)


def flat(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the words of nested tables by dotted keys."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def choose(query: str | None, cookie: str | None, accept: str) -> str:
    """Return the language to show: what is asked for, else what was chosen before, else what the browser prefers."""
    for wish in (query, cookie):
        if wish in LANGUAGES:
            return wish
    return max(_preferences(accept), default=(0.0, FALLBACK))[1]


def _preferences(accept: str) -> Iterator[tuple[float, str]]:
    """Yield (weight, language) of an Accept-Language header (RFC 9110 §12.5.4), as far as it can be read."""
    for part in accept[:500].split(","):
        tag, _, parameters = part.strip().partition(";")
        language = tag.split("-")[0].strip().lower()
        try:
            weight = float(parameters.strip().removeprefix("q=")) if parameters else 1.0
        except ValueError:
            continue
        if language in LANGUAGES and 0.0 < weight <= 1.0:
            yield weight, language
