"""A look at how somebody drives is in the log, whoever looks."""

from pathlib import Path

from sqlalchemy import select

from receiver import db
from receiver.people import tokens
from receiver.people.rights import UNDERWRITER, of_role
from tests import pages


def test_a_look_at_the_score_of_a_car_is_in_the_log_as_page_and_by_the_api(tmp_path: Path) -> None:
    desk = pages.open_desk(tmp_path)
    device = desk.enrol().device
    pages.own(desk.engine)
    visitor = pages.client(desk.engine, UNDERWRITER)
    with desk.engine.begin() as connection:
        token = tokens.add(connection, "rating", UNDERWRITER, of_role(UNDERWRITER), 1, pages.NOW)
    visitor.headers["authorization"] = f"Bearer {token}"
    assert visitor.get(f"/score/{device}").status_code == 200
    assert visitor.get(f"/api/v1/devices/{device}/scores").status_code == 200
    assert visitor.get(f"/api/v1/devices/{device}/scores/2026-10").status_code == 404
    t = db.access_log.c
    with db.reading(desk.engine) as connection:
        looks = connection.execute(select(t.who, t.name).where(t.what == "page", t.device == device).order_by(t.seq))
        assert [tuple(row) for row in looks] == [
            ("underwriter-1", "score"),
            ("token:rating", "scores"),
            ("token:rating", "score 2026-10"),
        ]
    desk.engine.dispose()
