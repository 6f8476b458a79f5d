"""Whether this receiver serves and its database answers: for whoever watches it, without any data."""

from fastapi import FastAPI, Response
from fastapi.responses import PlainTextResponse
from sqlalchemy import select

from receiver import db
from receiver.site import Site


def add(app: FastAPI, site: Site) -> None:
    """Add the route; a database that does not answer is 503."""

    @app.api_route("/health", methods=["GET", "HEAD"])
    def health() -> Response:
        with db.reading(site.engine) as connection:
            connection.execute(select(db.schema_version.c.version)).first()
        return PlainTextResponse("ok\n")
