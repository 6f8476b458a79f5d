"""Tell in JSON what a replay kept in STORE: for each kind of record, and for the samples, how many and their SHA-256.

Usage: replayed.py STORE. The boot's number is drawn anew by each replay and stands for itself.
"""

import hashlib
import json
import sqlite3
import sys

store = sqlite3.connect(f"file:{sys.argv[1]}/store.db?mode=ro", uri=True)
boots = [name.encode() for (name,) in store.execute("SELECT id FROM boot")]
told: dict[str, list[bytes]] = {}
for lane, seq, kind, t_ns, body in store.execute("SELECT lane, seq, kind, t_ns, body FROM entry ORDER BY lane, seq"):
    record = b"%s %d %d %s" % (lane.encode(), seq, t_ns, body)
    for boot in boots:
        record = record.replace(boot, b"BOOT")
    told.setdefault(kind, []).append(record)
for start_ns, end_ns, samples, data in store.execute("SELECT start_ns, end_ns, samples, data FROM block ORDER BY id"):
    told.setdefault("samples", []).append(b"%d %d %d %s" % (start_ns, end_ns, samples, data))
print(json.dumps({kind: [len(all_), hashlib.sha256(b"\n".join(all_)).hexdigest()] for kind, all_ in told.items()}))
if len(sys.argv) > 2:  # by hand: the records themselves
    with open(sys.argv[2], "w", encoding="utf-8") as out:
        out.writelines(f"{kind} {one!r}\n" for kind, all_ in told.items() if kind != "samples" for one in all_)
