"""What the tests of the API share: a receiver with a car, a policy, a crash and a claim, and callers of every role."""

import warnings
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from receiver import policies
from receiver.claiming import facts, reporting
from receiver.claiming.facts import Place
from receiver.filestore import FileStore
from receiver.people import rights, secrets, tokens
from receiver.policies import Cover, Policy
from receiver.registry import consents
from receiver.settings import FileSettings
from receiver.web import create_app
from tests.pages import HOME, NOW, OWNER, SETTINGS, Desk, S, braking, clock_at, drive, open_desk, own

V1 = "/api/v1"
PLACE = (36.6512, 117.1201)  # T-CLAIM-MOVE's
LOSS_NS = NOW - 3600 * S


@dataclass
class Bureau:
    """A receiver with one car of OWNER and one of nobody's, and clients by role."""

    desk: Desk
    folder: Path
    device: str
    other: str
    claim: str = ""
    clients: dict[str, Any] = field(default_factory=dict)

    @property
    def engine(self) -> Engine:
        return self.desk.engine

    def caller(self, role: str, scopes: frozenset[str] | None = None) -> Any:
        """Return a client that carries a token of a role."""
        name = f"{role}{sorted(scopes) if scopes is not None else ''}"
        if name not in self.clients:
            self.clients[name] = client(self.app, token(self.engine, role, scopes))
        return self.clients[name]

    @property
    def app(self) -> Any:
        if "app" not in self.clients:
            settings = replace(SETTINGS, database=f"sqlite:///{self.folder / 'receiver.db'}")  # keys stand beside it
            files = FileStore(FileSettings(root=str(self.folder / "files")), settings.database)
            self.clients["app"] = create_app(self.engine, settings, lambda: NOW, files=files)
        return self.clients["app"]


def client(app: Any, secret: str = "") -> Any:
    """Return a client of an app without a socket; without a secret a stranger."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # starlette wants httpx2, which is not released for all of our Pythons
        from starlette.testclient import TestClient
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    return TestClient(app, base_url=HOME, raise_server_exceptions=False, headers=headers)


def open_bureau(folder: Path) -> Bureau:
    """Make a receiver in which every list has something."""
    desk = open_desk(folder)
    mine = desk.enrol(1)
    own(desk.engine)
    other = desk.enrol(2)
    own(desk.engine, "owner-2")
    for source in (mine, other):
        desk.send(source, [clock_at(LOSS_NS - 86_400 * S)])
        desk.send(source, drive(place=PLACE, events=[braking(latitude=PLACE[0], longitude=PLACE[1])]))
    desk.status(mine, "online")
    with desk.engine.begin() as connection:
        policies.put(connection, policy("P-1", mine.device, OWNER))
        policies.put(connection, policy("P-2", other.device, "owner-2"))
    for purpose in ("recording", "scoring"):
        consents.give(desk.engine, mine.device, purpose, NOW - 3600 * S, by=OWNER)
    made = Bureau(desk, folder, mine.device, other.device)
    told = reporting.Declared(mine.device, LOSS_NS, OWNER, "A van <b>pulled</b> out", Place(*PLACE))
    made.claim = reporting.report(desk.engine, told, NOW - 60 * S, facts.limits())
    return made


def policy(name: str, device: str, owner: str) -> Policy:
    return Policy(
        id=name,
        vin="LSVAM4187C2184841" if name == "P-1" else "LSVAM4187C2184842",
        plate="鲁A12345",
        regime="2020",
        starts=date(2026, 1, 1),
        ends=date(2026, 12, 31),
        premium_fen=200_000,
        covers=(Cover("VD", 12_000_000), Cover("TPL", 100_000_000)),
        device=device,
        owner=owner,
    )


def token(engine: Engine, role: str, scopes: frozenset[str] | None = None) -> str:
    """Return a new token of a role, with all its rights or some."""
    given = rights.of_role(role) if scopes is None else scopes
    with engine.begin() as connection:
        owner = OWNER if role == "owner" else ""
        return tokens.add(connection, f"{role}-{secrets.name()}", role, given, 30, NOW, owner)
