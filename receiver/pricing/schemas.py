"""Write the JSON Schemas of requests and quotes: `python -m receiver.pricing.schemas docs/schemas/pricing`.

A test fails when the files and the types differ.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from receiver.pricing.answer import Quote, Settlement
from receiver.pricing.request import QuoteRequest
from receiver.pricing.whatif import Change, Comparison

TYPES: Final[dict[str, Any]] = {
    "quote-request": QuoteRequest,
    "quote": Quote,
    "what-if-change": Change,
    "what-if": Comparison,
    "settlement": Settlement,
}


def schemas() -> dict[str, str]:
    """Return every schema file's text by its name."""
    found = {}
    for stem, kind in TYPES.items():
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": stem, **msgspec.json.schema(kind)}
        found[f"{stem}.schema.json"] = json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
    return found


def main() -> None:
    """Write the files into the folder named on the command line."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in schemas().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
