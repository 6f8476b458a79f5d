"""A million damaged messages into ingest: how many a second, what they were refused for, and that nothing was raised.

The named alternative is what ingest does with good messages: the same device's batches, verified and stored. The
database writes without waiting for the disk here, so that the rate is that of the checks and not of fsync.
"""

import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from sqlalchemy import event

from agent import messages
from receiver import db, devices
from receiver.filestore import FileStore
from receiver.ingest import Ingest
from receiver.registry import consents
from receiver.settings import FileSettings
from tests.fuzzing import NOW, run
from tests.pages import own
from tests.sample_records import S, some
from tests.syncing import ListSource

MESSAGES = 1_000_000
GOOD = 2_000  # batches of 10 entries


def main(count: int = MESSAGES) -> None:
    """Print the rates and the refusals."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rate = _good(root / "good")
        (root / "bad").mkdir()
        engine = quick(root / "bad")
        began = perf_counter()
        found = run(engine, FileStore(FileSettings(root=str(root / "files")), str(engine.url)), count)
        seconds = perf_counter() - began
        engine.dispose()
    bad = found.messages / seconds
    print(f"good batches of 10 entries   {rate:10,.0f} messages/s")
    print(f"damaged messages             {bad:10,.0f} messages/s  {bad / rate:.2f} ×")
    print(f"{found.messages:,} damaged messages in {seconds:,.0f} s")
    print(f"{found.stored:,} entries stored, {found.answers:,} answers")
    for reason, times in sorted(found.refused.items(), key=lambda kv: -kv[1]):
        print(f"  {times:>9,}  {reason}")
    print(f"exceptions: {sum(found.raised.values())} {found.raised or ''}  entries that nobody signed: {found.forged}")
    assert not found.raised
    assert not found.forged


def quick(folder: Path) -> Any:
    """Open a new database that does not wait for the disk."""
    engine = db.open_database(f"sqlite:///{folder / 'receiver.db'}")
    engine.dispose()

    @event.listens_for(engine, "connect")
    def _fast(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    return engine


def _good(folder: Path) -> float:
    folder.mkdir()
    engine = quick(folder)
    source = ListSource()
    devices.enrol(engine, source.public_key.hex())
    own(engine)
    consents.give(engine, source.device, "recording", 1, by="owner-1")
    ingest = Ingest(engine)
    entries = source.append([(n * S, some(1)[0][1]) for n in range(GOOD * 10)])
    topic = messages.topic(source.device, "up", "event")
    payloads = [messages.encode_batch(entries[i : i + 10]) for i in range(0, len(entries), 10)]
    began = perf_counter()
    for payload in payloads:
        ingest.take(topic, payload, NOW)
    rate = len(payloads) / (perf_counter() - began)
    engine.dispose()
    return rate


if __name__ == "__main__":
    main()
