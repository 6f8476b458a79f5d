"""Write the description of the API: `python -m receiver.api.write docs/openapi.json`. A test fails when they differ."""

import json
import sys
from pathlib import Path

from receiver.api.app import described


def text() -> str:
    """Return the description as the file has it."""
    return json.dumps(described(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text(), encoding="utf-8")
