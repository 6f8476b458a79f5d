"""What the tests of the adjusters' pages share: a crash that opened a claim, a claim by report, and disputes."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from receiver import db, disputes, policies
from receiver.claiming import assessing, facts, reporting
from receiver.claiming.facts import Place
from receiver.claiming.reporting import Declared
from receiver.policies import Cover, Policy
from tests.crash_cases import Box, Insurer
from tests.packing import T0_NS, UTC_NS
from tests.pages import HOME, NOW, OWNER, Desk, S, braking, client, clock_at, drive, own, signed_in, visitor

T0 = UTC_NS + T0_NS
EVIL = "<script>alert('沪')</script>"


class Adjusting:
    """An insurer with a claim that a box opened and one that an owner told, for a client that is signed in."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self.insurer = Insurer(folder / "insurer", url)
        self.engine, self.files = self.insurer.engine, self.insurer.files
        self.box = Box(folder / "box")
        self.box.crashes(films="")
        self.insurer.take_all(self.box)
        self.device = self.box.store.device
        self.desk = Desk(self.engine)
        self.app = client(self.engine, None, files=self.files).app
        own(self.engine)
        self.claim = self.insured(self.device, "P1", "鲁B1C234", T0, EVIL)

    def insured(self, device: str, policy: str, plate: str, utc_ns: int, said: str) -> str:
        """Insure a car, take a report of it and check it; return the claim."""
        day = assessing.local_day(utc_ns)
        span = (day - timedelta(10), day + timedelta(355))
        covers = (Cover("VD", 12_000_000, True), Cover("TPL", 100_000_000))
        made = Policy(policy, "", plate, "2015", *span, covers=covers, device=device, owner=OWNER)
        with self.engine.begin() as connection:
            policies.put(connection, made)
        declared = Declared(device, utc_ns, OWNER, said, Place(31.2371, 121.4712))
        claim = reporting.report(self.engine, declared, utc_ns + 3600 * S, facts.limits())
        assessing.check(self.engine, claim, utc_ns + 4000 * S, self.files)
        return claim

    def drives(self, seed: int) -> str:
        """Let another car drive and brake hard; return its device."""
        source = self.desk.enrol(seed)
        self.desk.send(source, [clock_at(NOW - 3 * 86_400 * S), *drive(events=[braking(), braking(400 * S)])])
        own(self.engine)
        return source.device

    def disputed_event(self, seed: int, why: str) -> int:
        """Let the owner of another car dispute its first event; return the dispute's number."""
        device = self.drives(seed)
        e = db.harsh_event.c
        with db.reading(self.engine) as connection:
            row = connection.execute(select(e.lineage, e.lane, e.seq).where(e.device == device).limit(1)).one()
        return disputes.dispute_entry(self.engine, device, (row.lineage, row.lane, row.seq), OWNER, why, NOW - 7200 * S)

    def client(self, role: str = "adjuster") -> Any:
        """Return a client of the pages that is signed in and follows no redirect; all have one application."""
        session = signed_in(self.engine, role)
        found = visitor(self.app, headers={"origin": HOME, "x-csrf": session.csrf})
        found.cookies.set("session", session.token)
        return found

    def close(self) -> None:
        self.box.store.close()
        self.engine.dispose()


def version(body: str) -> str:
    """Return what the forms of a claim's page name as seen."""
    found = re.search(r'name="version" value="(\d+)"', body)
    assert found
    return found[1]


def plain(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))
