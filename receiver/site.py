"""What every family of pages gets: the database, the store of packages, the settings, and the way to make a page."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from fastapi import Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from sqlalchemy import Engine

from receiver import views
from receiver.access import Look, Looks
from receiver.filestore import FileStore
from receiver.people import gate, nav
from receiver.people.person import Person
from receiver.settings import ReceiverSettings
from receiver.texts import LANGUAGES, choose, text
from receiver.words import DATUMS, WGS84, Words, time_zone

COOKIE: Final = "language"
DATUM: Final = "datum"  # of maps; the name of a query and of a cookie
YEAR_S: Final = 365 * 86400
_HERE: Final = Path(__file__).parent


@dataclass
class Site:
    """One receiver's pages: what they read and how they are made. Times are shown in the zone of the settings.

    `paths` are the pages that are there, as routes write them. Raise ConfigError for an unknown zone.
    """

    engine: Engine
    files: FileStore | None
    settings: ReceiverSettings
    now_ns: Callable[[], int]
    refresh_s: float  # of what a page asks for again by itself
    paths: Collection[str] = ()
    zone: ZoneInfo = field(init=False)
    _looks: Looks = field(init=False)
    _templates: Environment = field(init=False)

    def __post_init__(self) -> None:
        """Read the templates' folder."""
        self.zone = time_zone(self.settings.http.zone)
        self._looks = Looks(self.engine)
        self._templates = Environment(
            loader=PackageLoader("receiver"),
            autoescape=select_autoescape(default=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals["asset"] = asset

    def words_of(self, request: Request) -> Words:
        """Return the words in which to answer a request, at this moment."""
        query, header = request.query_params.get("lang"), request.headers.get("accept-language", "")
        wishes = (request.query_params.get(DATUM), request.cookies.get(DATUM))
        datum = next((wish for wish in wishes if wish in DATUMS), WGS84)
        return Words(text(choose(query, request.cookies.get(COOKIE), header)), self.zone, self.now_ns(), datum)

    def page(self, request: Request, template: str, status: int = 200, /, **values: Any) -> Response:
        """Render a template; it always has w (words), t (text), person, may(right), menu, home, csrf, csrf_field()."""
        words = values.pop("words", None) or self.words_of(request)
        language = words.text.language
        other = next(each for each in LANGUAGES if each != language)
        switch = request.url.include_query_params(lang=other)
        person: Person | None = getattr(request.state, "person", None)
        session = getattr(request.state, "session", None)
        csrf = session.csrf if session is not None else ""
        body = self._templates.get_template(template).render(
            w=words,
            t=words.text,
            trip_name=partial(views.when, words),
            switch=f"{switch.path}?{switch.query}",
            refresh_s=self.refresh_s,
            person=person,
            may=person.may if person else _nothing,
            menu=nav.entries(person, self.paths, request.url.path) if person else [],
            home=self.home(person),
            csrf=csrf,
            csrf_field=partial(_field, csrf),
            **values,
        )
        response = HTMLResponse(body, status)
        response.headers["Content-Language"] = words.text.tag
        wishes = (("lang", COOKIE, language), (DATUM, DATUM, words.datum))
        for name, cookie, chosen in wishes:
            if request.query_params.get(name) == chosen:
                secure = request.url.scheme == "https"
                response.set_cookie(cookie, chosen, max_age=YEAR_S, samesite="lax", httponly=True, secure=secure)
        return response

    def problem(self, request: Request, status: int, key: str) -> Response:
        """Answer that something did not work: a page, or for programs what RFC 9457 calls a problem."""
        if request.url.path.startswith(gate.API):
            title = text("en")(f"problem.{key}")
            said = {"type": "about:blank", "title": title, "status": status}
            headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
            return JSONResponse(said, status, headers, "application/problem+json")
        if request.url.path.endswith(".json"):
            return JSONResponse({}, status)
        return self.page(request, "problem.html", status, key=key)

    def home(self, person: Person | None) -> nav.Shown:
        """Return the page at which somebody begins."""
        if person is None:
            return nav.Shown("sign_in", gate.SIGN_IN, False)
        path = nav.start(person, self.paths)
        return nav.Shown(next((e.key for e in nav.NAV[person.role] if e.path == path), "account"), path, False)

    def note(
        self, request: Request, what: str, device: str = "", incident: str = "", name: str = "", *, part: bool = False
    ) -> None:
        """Write a look or a decision of the person who asks into the log; what cannot be written is not shown.

        `what` is one of receiver.access.WHAT; `part` says that only a range of a file is given.
        """
        person: Person = request.state.person
        self._looks.note(
            Look(person.name, gate.client(request), device, incident, what, name), self.now_ns(), part=part
        )


@cache
def asset(name: str) -> str:
    """Return the address of a static file; it changes with the content."""
    digest = sha256((_HERE / "static" / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?{digest}"


def _field(csrf: str) -> Markup:
    return Markup('<input type="hidden" name="{}" value="{}">').format(gate.FIELD, csrf)


def _nothing(_: str) -> bool:
    return False
