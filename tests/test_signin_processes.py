"""Several processes sign people in over one database, SQLite or PostgreSQL: what counts once counts once for all."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyotp
import pytest
from argon2 import PasswordHasher
from sqlalchemy import Engine

from receiver import access, db
from receiver.people import accounts, invites, limits, passwords, sessions, signing, tokens
from receiver.people.factors import Sealer, new_codes
from receiver.people.person import Person
from receiver.people.signing import Outcome, Seat
from receiver.settings import PeopleSettings, ReceiverSettings
from tests.pages import NOW, S
from tests.syncing import postgresql

PASSWORD = "a cup of tea at 4"
SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"


@pytest.fixture(params=["sqlite", "postgresql"])
def engines(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Engine, Engine]]:
    """Two processes' ways to one database."""
    if request.param == "sqlite":
        opened = tuple(db.open_database(f"sqlite:///{tmp_path / 'r.db'}") for _ in range(2))
        yield opened  # type: ignore[misc]
    else:
        with postgresql() as url:
            opened = tuple(db.open_database(url) for _ in range(2))
            yield opened  # type: ignore[misc]
            for engine in opened:
                engine.dispose()
    for engine in opened:
        engine.dispose()


def at_once(engines: tuple[Engine, Engine], do: Callable[[Engine], object], times: int = 16) -> list[object]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda n: do(engines[n % 2]), range(times)))


def test_what_is_allowed_once_is_allowed_once(
    engines: tuple[Engine, Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "_HASHER", PasswordHasher(1, 8, 1))
    sealer = Sealer(ReceiverSettings(people=PeopleSettings(str(tmp_path / "people.key"))))
    key = [(limits.of_name("mei"), limits.NAME)]
    counted = at_once(engines, lambda e: limits.attempt(e, key, NOW).wait_ns)
    assert counted.count(0) == limits.NAME.free
    assert {limits.attempt(e, key, NOW).wait_ns for e in engines} == {S}
    with engines[0].begin() as connection:
        limits.forgive(connection, key[0][0])
        person = accounts.add(connection, "li", "adjuster", NOW)
        link = invites.make(connection, person.id, invites.FIRST, NOW)
        codes = new_codes()
    kept = passwords.hashed(PASSWORD)
    used = at_once(engines, lambda e: signing.with_link(e, link, kept, Seat("", ""), NOW), 6)
    assert sum(outcome is not None for outcome in used) == 1
    with engines[0].begin() as connection:
        accounts.set_factor(connection, person.id, sealer.seal(person.id, SECRET), 0, codes)

    def shown(code: str) -> Callable[[Engine], bool]:
        def show(engine: Engine) -> bool:
            with engine.begin() as connection:
                return signing.factor_holds(connection, sealer, person, code, NOW)

        return show

    assert at_once(engines, shown(pyotp.TOTP(SECRET).at(NOW // S)), 6).count(True) == 1
    assert at_once(engines, shown(codes[0]), 6).count(True) == 1
    half = signing.with_password(engines[0], "li", PASSWORD, Seat("192.0.2.1", "x" * 500), NOW)
    assert half == Outcome(half.token, sessions.FACTOR)
    found = sessions.find(engines[1], half.token, NOW)
    assert found is not None
    whole = signing.with_factor(engines[1], sealer, found, codes[1], Seat("192.0.2.1", ""), NOW)
    assert whole.stage == sessions.WHOLE
    assert sessions.find(engines[0], half.token, NOW) is None
    assert sessions.find(engines[0], whole.token, NOW) is not None
    with engines[0].begin() as connection:
        token = tokens.add(connection, "t", "adjuster", ["claims.read"], 1, NOW)
    first = at_once(engines, lambda e: tokens.find(e, f"Bearer {token}", NOW))
    assert [one[1] for one in first if isinstance(one, tuple)].count(True) == 1
    assert isinstance(accounts.named(engines[1], "LI"), Person)
    assert access.verify(engines[0]).broken is None
