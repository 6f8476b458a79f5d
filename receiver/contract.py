"""Write the contract's JSON Schemas from the types that both ends use: `python -m receiver.contract docs/schemas`.

A test fails when the files and the types differ, so the contract cannot drift from the code.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from agent import commandmessages, consentmessages, filemessages, messages
from agent.records import KINDS

# file stem -> type
TYPES: Final[dict[str, Any]] = {
    "batch": messages.Batch,
    "birth": messages.Birth,
    "signed-birth": messages.SignedBirth,
    "status": messages.Status,
    "live": messages.Live,
    "ack": messages.Ack,
    "init": filemessages.Init,
    "files": filemessages.Files,
    "command": commandmessages.Command,
    "signed-command": commandmessages.SignedCommand,
    "consent": consentmessages.Word,
    "signed-consent": consentmessages.SignedWord,
    **{f"{name.replace('_', '-')}-arguments": kind for name, kind in commandmessages.ARGUMENTS.items()},
    **{f"record-{kind}": record for kind, record in KINDS.items()},
}


def schemas() -> dict[str, str]:
    """Return every schema file's text by its name."""
    found = {}
    for stem, kind in TYPES.items():
        schema = msgspec.json.schema(kind)
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": stem, **schema}
        found[f"{stem}.schema.json"] = json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
    return found


def main() -> None:
    """Write the files into the folder named on the command line."""
    folder = Path(sys.argv[1])
    for name, text in schemas().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
