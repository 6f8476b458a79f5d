"""The texts that owners agree to: one file for each purpose, every version that was ever shown, in each language.

A text that was shown is never changed: a new version is added, and who agreed to an older one agreed to that.
"""

import hashlib
import tomllib
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from agent.errors import ConfigError
from receiver.registry.refusals import RegistryError

LANGUAGES: Final = ("en", "zh")
_FOLDER: Final = Path(__file__).parent / "texts"


class Shown(NamedTuple):
    """A text as a person sees it, and its SHA-256."""

    title: str
    text: str
    digest: str


class Wording(NamedTuple):
    """One version of a purpose's text in all languages."""

    purpose: str
    version: str  # the day from which it is shown
    languages: dict[str, Shown]


@cache
def versions(purpose: str) -> tuple[Wording, ...]:
    """Return the versions of a purpose's text, the oldest first; raise ConfigError for a file that lacks something."""
    path = _FOLDER / f"{purpose}.toml"
    read = tomllib.loads(path.read_text(encoding="utf-8"))
    found = []
    for version, texts in sorted(read.items()):
        lacking = [language for language in LANGUAGES if not texts.get(language, {}).get("text", "").strip()]
        if lacking:
            raise ConfigError(f"{path}: version {version} lacks its text in {', '.join(lacking)}")
        found.append(Wording(purpose, version, {name: _shown(texts[name]) for name in LANGUAGES}))
    if not found:
        raise ConfigError(f"{path}: holds no text")
    return tuple(found)


def latest(purpose: str) -> Wording:
    """Return the version of a purpose's text that is shown now."""
    return versions(purpose)[-1]


def current(purpose: str, language: str) -> Shown:
    """Return the text of a purpose that is shown now, in a language; raise RegistryError for one that there is not."""
    if language not in LANGUAGES:
        raise RegistryError(
            f"consent: no text in language {language[:8]!r}; there are: {', '.join(LANGUAGES)}", "language"
        )
    return latest(purpose).languages[language]


def _shown(text: dict[str, str]) -> Shown:
    body = text["text"].strip()
    return Shown(text["title"], body, hashlib.sha256(f"{text['title']}\n{body}".encode()).hexdigest())
