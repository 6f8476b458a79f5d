"""Signing in: passwords, the second factor, links that work once, sessions that end, attempts that are slowed."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyotp
import pytest
from argon2 import PasswordHasher
from sqlalchemy import select, update

from receiver import access, db
from receiver.pages.account import browser as called
from receiver.people import accounts, invites, limits, passwords, sessions, tables
from receiver.people.gate import safe_next
from receiver.settings import PeopleSettings, ReceiverSettings
from receiver.web import create_app
from tests.pages import HOME, NOW, Desk, S, open_desk, signed_in, visitor

PASSWORD = "a cup of tea at 4"


class Time:
    """The receiver's clock, as the test turns it."""

    ns = NOW

    def __call__(self) -> int:
        return self.ns


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash with the least of Argon2: what is measured elsewhere need not be waited for here."""
    hasher = PasswordHasher(1, 8, 1)
    monkeypatch.setattr(passwords, "_HASHER", hasher)
    monkeypatch.setattr(passwords, "_NOBODY", hasher.hash("a password that nobody knows"))


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = open_desk(tmp_path)
    yield desk
    desk.engine.dispose()


@pytest.fixture
def app(desk: Desk, time: Time, tmp_path: Path) -> Any:
    settings = ReceiverSettings(people=PeopleSettings(str(tmp_path / "people.key")))
    return create_app(desk.engine, settings, time)


@pytest.fixture
def browser(app: Any) -> Any:
    return visitor(app)


def invited(desk: Desk, name: str, role: str) -> str:
    with desk.engine.begin() as connection:
        person = accounts.add(connection, name, role, NOW, "o-1" if role == "owner" else "")
        return f"/enter/{invites.make(connection, person.id, invites.FIRST, NOW)}"


def settled(desk: Desk, name: str = "mei", role: str = "owner") -> None:
    """Make a person with a password."""
    invited(desk, name, role)
    with desk.engine.begin() as connection:
        accounts.set_password(connection, accounts.find(connection, name).id, passwords.hashed(PASSWORD))  # type: ignore[union-attr]


def form(page: Any) -> dict[str, str]:
    """Return what the form of a page carries hidden."""
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.text))


def sign_in(browser: Any, name: str = "mei", password: str = PASSWORD, wish: str = "/") -> Any:
    return browser.post("/sign-in", data={"name": name, "password": password, "next": wish})


def rows(desk: Desk) -> list[tuple[str, str, str]]:
    table = db.access_log.c
    with db.reading(desk.engine) as connection:
        found = connection.execute(select(table.who, table.what, table.name).order_by(table.seq))
        return [(r.who, r.what, r.name) for r in found]


def enrolled(desk: Desk, browser: Any, time: Time, role: str = "adjuster") -> tuple[pyotp.TOTP, list[str]]:
    """Begin as an adjuster does: link, password, second factor; return the factor and the recovery codes."""
    page = browser.post(invited(desk, "li", role), data={"password": PASSWORD, "again": PASSWORD})
    assert page.headers["location"] == "/sign-in/enrol"
    page = browser.get("/sign-in/enrol")
    secret = re.search(r"<code>([A-Z2-7 ]{39})</code>", page.text)
    assert secret is not None
    assert page.text == browser.get("/sign-in/enrol").text  # the same secret until it is taken
    factor = pyotp.TOTP(secret[1].replace(" ", ""))
    done = browser.post("/sign-in/enrol", data={**form(page), "code": factor.at(time.ns // S)})
    assert done.status_code == 200
    return factor, re.findall(r"<li><code>([a-z2-7-]{19})</code>", done.text)


def test_a_first_link_sets_the_password_and_a_wrong_one_is_told_beside_its_field(desk: Desk, browser: Any) -> None:
    link = invited(desk, "mei", "owner")
    assert "mei" in browser.get(link).text
    for password, again, said in (
        ("tiny one", "tiny one", "at least 12"),
        ("a" * 20, "a" * 20, "easy to guess"),
        ("we are mei and Li", "we are mei and Li", "easy to guess"),
        (PASSWORD, PASSWORD + "!", "do not agree"),
    ):
        answer = browser.post(link, data={"password": password, "again": again})
        assert answer.status_code == 422
        assert said in answer.text
        assert 'aria-invalid="true"' in answer.text
        assert password not in answer.text
    assert browser.post(link, data={"password": PASSWORD, "again": PASSWORD}).headers["location"] == "/"
    assert browser.get("/account").status_code == 200
    for spent in (browser.get(link), browser.post(link, data={"password": PASSWORD, "again": PASSWORD})):
        assert spent.status_code == 404
        assert "holds no more" in spent.text
    kept = next(p for p in accounts.every(desk.engine))
    assert (kept.password_set, kept.second_factor) == (True, False)
    assert rows(desk) == [("mei", "password", ""), ("mei", "sign_in", "")]


def test_a_link_ends_by_time_and_with_its_person(desk: Desk, browser: Any, time: Time) -> None:
    link = invited(desk, "mei", "owner")
    time.ns += invites.LIFE_NS[invites.FIRST]
    assert browser.get(link).status_code == 404
    time.ns = NOW
    with desk.engine.begin() as connection:
        accounts.disable(connection, accounts.find(connection, "mei").id)  # type: ignore[union-attr]
    assert browser.get(link).status_code == 404


def test_a_session_is_new_after_signing_in_its_cookie_is_safe_and_the_page_that_was_wished_comes(
    desk: Desk, app: Any, browser: Any
) -> None:
    settled(desk)
    browser.cookies.set("session", "fixed-by-somebody-else")
    assert browser.get("/account").headers["location"] == "/sign-in?next=/account"
    browser.cookies.clear()
    answer = sign_in(browser, "MEI ", wish="/account")
    assert answer.headers["location"] == "/account"
    cookie = answer.headers["set-cookie"]
    assert re.fullmatch(r"session=[\w-]{43}; HttpOnly; Path=/; SameSite=lax", cookie)
    assert cookie[8:51] not in str(
        desk.engine.raw_connection().driver_connection.execute("SELECT * FROM session").fetchall()
    )  # type: ignore[union-attr]
    encrypted = visitor(app, base_url="https://127.0.0.1", headers={"origin": "https://127.0.0.1"})
    answer = sign_in(encrypted)
    assert re.match(r"__Host-session=[\w-]{43}; HttpOnly; Path=/; SameSite=lax; Secure", answer.headers["set-cookie"])
    assert "max-age=31536000" in answer.headers["strict-transport-security"]
    assert encrypted.get("/account").status_code == 200


@pytest.mark.parametrize(
    ("wish", "goes"),
    [
        ("/vehicles/x?page=2", "/vehicles/x?page=2"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("https://evil.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("/ok\r\nset-cookie: a=b", "/"),
        ("", "/"),
        ("/" + "x" * 2000, "/"),
    ],
)
def test_the_way_after_signing_in_stays_here(wish: str, goes: str) -> None:
    assert safe_next(wish) == goes


def test_who_sees_many_people_needs_a_second_factor_and_no_code_is_taken_twice(
    desk: Desk, app: Any, browser: Any, time: Time
) -> None:
    factor, codes = enrolled(desk, browser, time)
    assert len(set(codes)) == 10
    assert browser.get("/account").status_code == 200
    other = visitor(app)
    assert sign_in(other, "li", wish="/account").headers["location"] == "/sign-in/factor?next=/account"
    assert other.get("/account").headers["location"].startswith("/sign-in")  # half a session shows nothing
    page = other.get("/sign-in/factor?next=/account")
    replayed = other.post("/sign-in/factor", data={**form(page), "code": factor.at(time.ns // S)})
    assert replayed.status_code == 422
    time.ns += 30 * S
    late = other.post("/sign-in/factor", data={**form(page), "code": factor.at(time.ns // S)})
    assert late.headers["location"] == "/account"
    assert other.get("/account").status_code == 200
    third = visitor(app)
    sign_in(third, "li")
    page = third.get("/sign-in/factor")
    again = third.post("/sign-in/factor", data={**form(page), "code": factor.at(time.ns // S)})
    assert again.status_code == 422
    typed = codes[3].upper().replace("-", " ")
    assert third.post("/sign-in/factor", data={**form(page), "code": typed}).status_code == 303
    sign_in(third, "li")
    assert third.post("/sign-in/factor", data={**form(third.get("/sign-in/factor")), "code": typed}).status_code == 422
    with db.reading(desk.engine) as connection:
        row = connection.execute(select(tables.person)).one()
    assert factor.secret not in str(row)


def test_a_form_of_the_second_factor_needs_its_own_token_and_a_half_session_ends_soon(
    desk: Desk, browser: Any, app: Any, time: Time
) -> None:
    factor, _ = enrolled(desk, browser, time)
    time.ns += 60 * S
    other = visitor(app)
    sign_in(other, "li")
    code = {"code": factor.at(time.ns // S)}
    assert other.post("/sign-in/factor", data=code).status_code == 403
    time.ns += sessions.HALF_NS
    assert other.post("/sign-in/factor", data=code).headers["location"] == "/sign-in"


def test_guessing_is_slowed_by_name_and_by_address_over_restarts_and_tells_nothing_of_names(
    desk: Desk, app: Any, browser: Any, time: Time
) -> None:
    settled(desk)
    said = {}
    for name in ("mei", "nobody"):
        answers = [sign_in(browser, name, "wrong one here") for _ in range(limits.NAME.free)]
        assert {a.status_code for a in answers} == {422}
        slowed = sign_in(browser, name, PASSWORD)
        assert slowed.status_code == 429
        assert slowed.headers["retry-after"] == "1"
        said[name] = [re.sub(rf"\b{name}\b", "", a.text) for a in (*answers, slowed)]
    assert said["mei"] == said["nobody"]
    restarted = visitor(create_app(desk.engine, None, time))
    assert sign_in(restarted).status_code == 429
    time.ns += 2 * S
    assert sign_in(restarted).status_code == 303  # and the delay is forgotten
    assert sign_in(restarted, password="wrong").status_code == 422
    assert sign_in(restarted).status_code == 303
    seen = [r for r in rows(desk) if r[1] == "refused"]
    assert ("mei", "refused", "4 in a row") in seen
    assert ("", "refused", "8 in a row") in seen  # by the address
    assert len(seen) < 8
    with desk.engine.begin() as connection:
        key = limits.secrets.hashed(limits.of_address("testclient"))
        connection.execute(update(tables.attempt).where(tables.attempt.c.key == key).values(failures=28))
    assert sign_in(restarted, "someone", "wrong").status_code == 422
    assert sign_in(restarted, "another", "wrong").status_code == 429


def test_delays_grow_to_their_bound_and_networks_count_as_one() -> None:
    waits = [limits.NAME.wait_ns(n) // S for n in range(1, 20)]
    assert waits[:9] == [0, 0, 0, 0, 1, 2, 4, 8, 16]
    assert waits == sorted(waits)
    assert waits[-1] == limits.NAME.most_s
    assert limits.of_address("2001:db8::1") == limits.of_address("2001:db8::ffff:1") != limits.of_address("2001:db9::1")
    assert limits.of_address("192.0.2.1") != limits.of_address("192.0.2.2")


def test_sessions_end_by_idleness_by_age_and_by_their_person(desk: Desk, app: Any, browser: Any, time: Time) -> None:
    settled(desk)
    sign_in(browser)
    time.ns += sessions.IDLE_NS - S
    assert browser.get("/account").status_code == 200
    time.ns += sessions.IDLE_NS - S
    assert browser.get("/account").status_code == 200  # it was seen in between
    time.ns += sessions.IDLE_NS
    assert browser.get("/account").status_code == 303
    sign_in(browser)
    for _ in range(sessions.AGE_NS // sessions.IDLE_NS):
        assert browser.get("/account").status_code == 200
        time.ns += sessions.IDLE_NS - S
    time.ns += sessions.AGE_NS // sessions.IDLE_NS * S
    assert browser.get("/account").status_code == 303
    sign_in(browser)
    phone = visitor(app, headers={"origin": HOME, "user-agent": "<b>phone</b>"})
    sign_in(phone)
    page = browser.get("/account")
    assert "&lt;b&gt;phone&lt;/b&gt;" in page.text
    (other,) = re.findall(r'name="session" value="([0-9a-f]{64})"', page.text)
    csrf = form(page)["csrf"]
    assert browser.post("/account/sessions", data={"session": other}).status_code == 403
    assert browser.post("/account/sessions", data={"session": other, "csrf": csrf}).status_code == 303
    assert phone.get("/account").status_code == 303
    assert browser.post("/sign-out", data={"csrf": csrf}).headers["location"] == "/sign-in"
    assert browser.get("/account").status_code == 303
    assert rows(desk)[-1] == ("mei", "sign_out", "")


def test_a_new_password_needs_the_present_one_and_ends_all_other_sessions(desk: Desk, app: Any, browser: Any) -> None:
    settled(desk)
    phone = visitor(app)
    sign_in(browser)
    sign_in(phone)
    new = {"password": "some other words", "again": "some other words"}
    page = browser.get("/account")
    wrong = browser.post("/account/password", data={**form(page), **new, "present": "not it, surely"})
    assert wrong.status_code == 422
    assert 'id="present-wrong"' in wrong.text
    done = browser.post("/account/password", data={**form(page), **new, "present": PASSWORD})
    assert done.headers["location"] == "/account"
    assert browser.get("/account").status_code == 200
    assert phone.get("/account").status_code == 303
    assert sign_in(phone).status_code == 422
    assert sign_in(phone, password="some other words").status_code == 303


def test_an_owner_takes_up_a_second_factor_and_lays_it_down_and_others_may_not(
    desk: Desk, app: Any, browser: Any, time: Time
) -> None:
    settled(desk)
    sign_in(browser)
    page = browser.get("/account/factor")
    secret = re.search(r"<code>([A-Z2-7 ]{39})</code>", page.text)
    assert secret is not None
    factor = pyotp.TOTP(secret[1].replace(" ", ""))
    code = {"code": factor.at(time.ns // S)}
    wrong = browser.post("/account/factor", data={**form(page), **code, "present": "not it, surely"})
    assert (wrong.status_code, 'id="present-wrong"' in wrong.text) == (422, True)
    wrong = browser.post("/account/factor", data={**form(page), "code": "000000", "present": PASSWORD})
    assert (wrong.status_code, 'id="code-wrong"' in wrong.text) == (422, True)
    assert browser.post("/account/factor", data={**form(page), **code, "present": PASSWORD}).status_code == 200
    assert sign_in(visitor(app)).headers["location"] == "/sign-in/factor"
    page = browser.get("/account")
    browser.post("/account/factor/remove", data={**form(page), "present": PASSWORD})
    assert sign_in(visitor(app)).headers["location"] == "/"
    clerk = visitor(app)
    enrolled(desk, clerk, time)
    page = clerk.get("/account")
    assert "factor/remove" not in page.text
    assert clerk.post("/account/factor/remove", data={**form(page), "present": PASSWORD}).status_code == 422
    assert sign_in(visitor(app), "li").headers["location"] == "/sign-in/factor"


def test_a_secret_is_readable_with_its_key_and_for_its_person_only(tmp_path: Path) -> None:
    from receiver.people.factors import Sealer, step_of

    one, two = (Sealer(ReceiverSettings(people=PeopleSettings(str(tmp_path / n)))) for n in "ab")
    sealed = one.seal("p-1", "JBSWY3DPEHPK3PXP")
    assert one.unseal("p-1", sealed) == "JBSWY3DPEHPK3PXP"
    assert one.unseal("p-2", sealed) is None
    assert two.unseal("p-1", sealed) is None
    assert one.offered("s", "") != one.offered("s", sealed) != two.offered("s", sealed)
    # RFC 6238 appendix B, SHA-1, the last six digits
    vector = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    for seconds, code in ((59, "287082"), (1111111109, "081804"), (20000000000, "353130")):
        assert step_of(vector, code, seconds * S) == seconds // 30
        assert step_of(vector, code, (seconds + 61) * S) is None
    assert step_of(vector, "28708", 59 * S) is None
    assert step_of(vector, "٢٨٧٠٨٢", 59 * S) is None


def test_passwords_are_kept_as_rfc_9106_recommends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    kept = passwords.hashed("Straße")
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert passwords._NOBODY.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert passwords.matches(kept, "Strasse".replace("ss", "\N{LATIN SMALL LETTER SHARP S}"))
    assert not passwords.matches("", "Straße")
    assert not passwords.matches("no hash", "Straße")
    assert passwords.outdated(PasswordHasher(1, 8, 1).hash("x"))
    assert not passwords.outdated(kept)


def test_a_form_that_is_too_large_or_hides_its_size_is_not_read(browser: Any) -> None:
    assert browser.post("/sign-in", data={"name": "x" * 70_000}).status_code == 413
    assert browser.post("/sign-in", data={"name": "x" * 700}).status_code == 422
    assert browser.post("/sign-in", content=iter([b"name=x"])).status_code == 413


@pytest.mark.parametrize(
    ("agent", "shown"),
    [
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0", "Edge · Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Safari/604.1", "Safari · iPhone"),
        ("curl/8.5.0", "curl/8.5.0"),
    ],
)
def test_browsers_are_called_as_people_call_them(agent: str, shown: str) -> None:
    assert called(agent) == shown


def test_what_cannot_be_logged_does_not_happen(desk: Desk, browser: Any) -> None:
    settled(desk)
    with desk.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON access_log BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    assert sign_in(browser).status_code == 503
    assert "set-cookie" not in browser.get("/").headers
    session = signed_in(desk.engine, "owner", "o-2")
    assert sessions.find(desk.engine, session.token, NOW) is not None
    assert access.verify(desk.engine).rows == 0
