"""Every role against every route, owners against each other's cars, forms of strangers, tokens against their scopes."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from receiver import access, devices
from receiver.people import gate, nav, reach, tokens
from receiver.people.person import Person
from receiver.people.rights import RIGHTS, ROLES
from receiver.settings import HttpSettings, ReceiverSettings
from receiver.web import create_app
from tests.pages import HOME, NOW, Desk, S, braking, client, clock_at, drive, open_desk, own, signed_in, visitor
from tests.syncing import ListSource

DAY_NS = tokens.DAY_NS
FILLED = {
    "device": "",
    "trip_id": "1",
    "incident": "0" * 16,
    "name": "imu.csv",
    "secret": "x",
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = open_desk(tmp_path_factory.mktemp("rights"))
    source = desk.enrol()
    own(desk.engine)
    other = ListSource(2)
    devices.enrol(desk.engine, other.public_key.hex())
    desk.greet(other)
    own(desk.engine, "owner-2")
    for one in (source, other):
        desk.send(one, [clock_at(NOW - 86400 * S), *drive(events=[braking()])])
    FILLED["device"] = source.device
    FILLED["other"] = other.device
    yield desk
    desk.engine.dispose()


@pytest.fixture(scope="module")
def app(desk: Desk) -> FastAPI:
    database = desk.engine.url.render_as_string(hide_password=False)
    return create_app(desk.engine, ReceiverSettings(database=database), lambda: NOW)


@pytest.fixture(scope="module")
def browsers(desk: Desk, app: FastAPI) -> dict[str | None, Any]:
    """A client for each role that sends the token of its forms, and one for nobody."""
    made: dict[str | None, Any] = {None: visitor(app)}
    for role in ROLES:
        session = signed_in(desk.engine, role)
        made[role] = visitor(app, headers={"origin": HOME, "x-csrf": session.csrf})
        made[role].cookies.set("session", session.token)
    return made


def pages(app: FastAPI) -> list[tuple[str, str, str]]:
    """Return method, path and right of every route of the pages that needs a right."""
    found = []
    for path, methods, right in gate.routes(app):
        if right is not None and not path.startswith(gate.API):
            found += [(method, path, right) for method in sorted(methods)]
    return found


def filled(path: str, **given: str) -> str:
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda m: {**FILLED, **given}.get(m[1], "1"), path)


def test_every_role_meets_every_route_as_the_table_says(app: FastAPI, browsers: dict[str | None, Any]) -> None:
    listed = pages(app)
    assert len(listed) > 20
    wrong = []
    for method, path, right in listed:
        if path == "/sign-out":
            continue
        asked = filled(path)
        stranger = browsers[None].request(method, asked)
        turned_away = stranger.status_code == 401 if path.endswith(".json") else stranger.status_code == 303
        if not turned_away or (stranger.status_code == 303 and not stranger.headers["location"].startswith("/sign-in")):
            wrong.append((None, method, path, stranger.status_code))
        for role in ROLES:
            status = browsers[role].request(method, asked).status_code
            may = role in RIGHTS[right]
            if (status == 403) is may or status >= 500 or status == 401:
                wrong.append((role, method, path, status))
    assert wrong == []


def test_no_owner_sees_that_there_is_another_owners_car(app: FastAPI, browsers: dict[str | None, Any]) -> None:
    other, unknown = FILLED["other"], "rw-0000000000000000"
    asked = [(m, p) for m, p, r in pages(app) if "{device}" in p and m != "HEAD" and "owner" in RIGHTS[r]]
    assert len(asked) > 6
    for method, path in asked:
        answers = [browsers["owner"].request(method, filled(path, device=d)) for d in (other, unknown)]
        assert [a.status_code for a in answers] == [404, 404], path
        assert answers[0].text.replace(other, unknown) == answers[1].text, path
    listed = browsers["owner"].get("/").text
    assert FILLED["device"] in listed
    assert other not in listed


def test_every_form_needs_the_token_of_its_session_and_our_origin(
    app: FastAPI, desk: Desk, browsers: dict[str | None, Any]
) -> None:
    posts = [(p, r) for m, p, r in pages(app) if m not in gate.SAFE]
    assert len(posts) >= 6
    for path, right in posts:
        role = min(RIGHTS[right])
        foreign = signed_in(desk.engine, role).csrf  # of another session of the same person
        for headers in (
            {"x-csrf": ""},
            {"x-csrf": foreign},
            {"origin": "http://evil.example"},
            {"origin": "null"},
            {"origin": HOME + ":81"},
            {"origin": "https://127.0.0.1"},
        ):
            answer = browsers[role].post(filled(path), headers=headers)
            assert answer.status_code == 403, (path, headers)
        plain = visitor(app, headers={})  # tells no origin
        plain.cookies.set("session", browsers[role].cookies["session"])
        plain.headers["x-csrf"] = browsers[role].headers["x-csrf"]
        assert plain.post(filled(path)).status_code == 403, path
    bad = browsers[None].post(
        "/sign-in", data={"name": "a", "password": "b"}, headers={"origin": "http://evil.example"}
    )
    assert bad.status_code == 403


def test_an_app_with_a_route_that_names_no_right_does_not_start(monkeypatch: pytest.MonkeyPatch, desk: Desk) -> None:
    from receiver import web

    class Forgetful:
        @staticmethod
        def add(app: FastAPI, _: Any) -> None:
            app.add_api_route("/tracks", lambda: None)

    monkeypatch.setattr(web, "PAGES", (*web.PAGES, Forgetful))
    with pytest.raises(gate.UnguardedError, match="/tracks"):
        create_app(desk.engine)


def test_each_role_begins_at_its_first_page_and_its_menu_leads_nowhere_in_vain(
    app: FastAPI, browsers: dict[str | None, Any]
) -> None:
    for role in ROLES:
        page = browsers[role].get("/", follow_redirects=True)
        assert page.status_code == 200
        menu = re.search(r'<nav class="menu".*?</nav>', page.text)
        listed = re.findall(r'href="([^"]+)"', menu[0] if menu else "")
        for path in listed:
            assert browsers[role].get(path, follow_redirects=True).status_code == 200, path
        shown = nav.entries(Person("p", role, role), {p for _, p, _ in pages(app)}, "/")
        assert [e.path for e in shown] == listed


def test_tokens_carry_their_scopes_of_their_role_until_they_end(desk: Desk) -> None:
    with desk.engine.begin() as connection:
        with pytest.raises(tokens.AccountError, match=r"trips\.read: not rights of"):
            tokens.add(connection, "actuary", "underwriter", ["scores.read", "trips.read"], 30, NOW)
        for wrong in ({"days": 0}, {"days": 400}, {"role": "boss"}, {"owner": "o"}, {"scopes": []}, {"name": "a b"}):
            usual = {"name": "x", "role": "underwriter", "scopes": ["scores.read"], "days": 30, "owner": ""}
            with pytest.raises(tokens.AccountError):
                tokens.add(connection, **{**usual, **wrong}, now_ns=NOW)  # type: ignore[arg-type]
        token = tokens.add(connection, "actuary", "underwriter", ["scores.read"], 30, NOW)
    assert re.fullmatch(r"rw_[\w-]{43}", token)
    before = access.verify(desk.engine).rows
    found = tokens.find(desk.engine, f"Bearer {token}", NOW)
    assert found is not None
    person, first = found
    assert first
    assert tokens.find(desk.engine, f"bearer {token}", NOW + S) == (person, False)
    assert (person.may("scores.read"), person.may("quotes.read"), person.may("trips.read")) == (True, False, False)
    assert access.verify(desk.engine).rows == before
    for header in (token, f"Bearer {token}x", f"Basic {token}", "Bearer rw_" + "x" * 43, ""):
        assert tokens.find(desk.engine, header, NOW) is None
    assert tokens.find(desk.engine, f"Bearer {token}", NOW + 30 * DAY_NS) is None
    with desk.engine.begin() as connection:
        assert tokens.revoke(connection, "actuary")
    assert tokens.find(desk.engine, f"Bearer {token}", NOW) is None


def test_programs_and_browsers_do_not_stand_in_for_each_other(desk: Desk, app: FastAPI) -> None:
    with desk.engine.begin() as connection:
        scopes = ["trips.read", "scores.read"]
        token = tokens.add(connection, "app", "owner", scopes, 30, NOW, "owner-1")
    bearer = {"authorization": f"Bearer {token}"}
    program, browser = visitor(app), client(desk.engine)
    rows = access.verify(desk.engine).rows
    assert program.get("/api/v1/me", headers=bearer).json()["rights"] == ["account.use", "scores.read", "trips.read"]
    program.get("/api/v1/me", headers=bearer)
    assert access.verify(desk.engine).rows == rows + 1  # the first use of a day
    assert program.get(f"/vehicles/{FILLED['device']}", headers=bearer).status_code == 303
    refused = browser.get("/api/v1/me")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")


def test_a_trip_is_shown_only_when_the_look_is_written(desk: Desk, browsers: dict[str | None, Any]) -> None:
    path = f"/vehicles/{FILLED['device']}/trips/1"
    rows = access.verify(desk.engine).rows
    assert browsers["owner"].get(path).status_code == 200
    assert access.verify(desk.engine).rows == rows + 1
    with desk.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON access_log BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    try:
        assert browsers["owner"].get(path).status_code == 503
    finally:
        with desk.engine.begin() as connection:
            connection.exec_driver_sql("DROP TRIGGER full")


def test_reach_without_an_owner_is_nothing(desk: Desk) -> None:
    assert reach.reached(desk.engine, Person("p", "p", "owner")) == frozenset()
    assert reach.reached(desk.engine, Person("p", "p", "owner", "owner-2")) == {FILLED["other"]}
    assert reach.reached(desk.engine, Person("p", "p", "adjuster")) is None


def test_beyond_this_machine_pages_come_encrypted_and_under_their_names(desk: Desk) -> None:
    settings = ReceiverSettings(http=replace(HttpSettings(), hosts=("Desk.Insurer.example",)))
    app = create_app(desk.engine, settings, lambda: NOW)
    for base, status in (
        ("https://desk.insurer.example", 200),
        ("https://desk.insurer.example:8443", 200),
        ("http://desk.insurer.example", 421),
        ("https://other.example", 421),
        ("http://localhost:8080", 200),
    ):
        assert visitor(app, base_url=base).get("/sign-in").status_code == status, base


def test_health_is_told_to_anybody_and_a_database_that_is_away_is_not_healthy(desk: Desk, tmp_path: Path) -> None:
    assert client(desk.engine, None).get("/health").text == "ok\n"
    other = open_desk(tmp_path)
    stranger = client(other.engine, None)
    with other.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE schema_version")
    assert stranger.get("/health").status_code == 503
    other.engine.dispose()
