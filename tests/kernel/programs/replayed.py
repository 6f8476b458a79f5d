"""Tell in JSON what a replay kept in STORE: for each kind of record, and for the samples, how many and their SHA-256.

Usage: replayed.py STORE. The boot's number is drawn anew by each replay, and an incident is named after it; both stand
for themselves. So does the device's key: of a package's files those are told that hold measured values, not those
that hold signatures and hashes.
"""

import hashlib
import json
import sqlite3
import sys
from pathlib import Path

folder = Path(sys.argv[1])
SIGNED = {"chain.jsonl", "manifest.json", "manifest.sig"}
store = sqlite3.connect(f"file:{folder}/store.db?mode=ro", uri=True)
entries = store.execute("SELECT lane, seq, kind, t_ns, body FROM entry ORDER BY lane, seq").fetchall()
names = {name.encode(): b"BOOT" for (name,) in store.execute("SELECT id FROM boot")}
incidents: dict[str, None] = {json.loads(body)["id"]: None for _, _, kind, _, body in entries if kind == "crash"}
names |= {name.encode(): b"INCIDENT %d" % n for n, name in enumerate(incidents)}


def renamed(data: bytes) -> bytes:
    for name, stands_for in names.items():
        data = data.replace(name, stands_for)
    return data


told: dict[str, list[bytes]] = {}
for lane, seq, kind, t_ns, body in entries:
    if kind == "package":  # several of one moment come in the order of their incidents' names
        package = json.loads(body)
        package["files"] = sorted(file["name"] for file in package["files"])
        told.setdefault(kind, []).append(renamed(json.dumps(package).encode()))
    else:
        told.setdefault(kind, []).append(renamed(b"%s %d %d %s" % (lane.encode(), seq, t_ns, body)))
told.get("package", []).sort()
for start_ns, end_ns, samples, data in store.execute("SELECT start_ns, end_ns, samples, data FROM block ORDER BY id"):
    told.setdefault("samples", []).append(b"%d %d %d %s" % (start_ns, end_ns, samples, data))
for incident in incidents:
    for path in sorted((folder / "packages" / incident).iterdir()):
        if path.name not in SIGNED:
            told.setdefault("package's file", []).append(renamed(path.name.encode() + b" " + path.read_bytes()))
print(json.dumps({kind: [len(all_), hashlib.sha256(b"\n".join(all_)).hexdigest()] for kind, all_ in told.items()}))
if len(sys.argv) > 2:  # by hand: the records themselves
    with open(sys.argv[2], "w", encoding="utf-8") as out:
        out.writelines(f"{kind} {one!r}\n" for kind, all_ in told.items() if kind != "samples" for one in all_)
