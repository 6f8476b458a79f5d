"""Chinese sentences are set as Chinese sentences are: with punctuation of full width (GB/T 15834)."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HAN = r"[\u4e00-\u9fff]"
HALF_WIDTH = re.compile(rf"{HAN}[,;:!?]|[,;:!?]{HAN}|\({HAN}|{HAN}\)")
WORDS = [
    *sorted((ROOT / "receiver").rglob("*zh*.toml")),
    *sorted((ROOT / "receiver" / "text" / "zh").glob("*.toml")),
    *sorted((ROOT / "config" / "regimes").glob("*.toml")),
    ROOT / "receiver" / "figures" / "definitions.toml",
    ROOT / "receiver" / "pricing" / "words.py",
    ROOT / "receiver" / "pricing" / "refusals.py",
]


@pytest.mark.parametrize("path", WORDS, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_sentence_has_punctuation_of_half_width(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if HALF_WIDTH.search(line) and not line.lstrip().startswith("#")]
