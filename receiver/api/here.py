"""The receiver that a request came to. Routes are made once for a process: making them costs more than a page."""

from contextvars import ContextVar
from typing import Final

from fastapi import FastAPI, Request
from sqlalchemy import Engine

from receiver.filestore import FileStore
from receiver.settings import ReceiverSettings
from receiver.site import Site

_sites: Final[ContextVar[Site]] = ContextVar("site")


def belong(app: FastAPI, site: Site) -> None:
    """Let the requests of an app be about a receiver."""
    app.state.site = site


def enter(request: Request) -> None:
    """Let this request be about the receiver of its app."""
    _sites.set(request.app.state.site)


class Here:
    """What handlers need of the receiver at hand."""

    @property
    def engine(self) -> Engine:
        """Return its database."""
        return _sites.get().engine

    @property
    def files(self) -> FileStore | None:
        """Return its store of packages, if it has one."""
        return _sites.get().files

    @property
    def settings(self) -> ReceiverSettings:
        """Return its settings."""
        return _sites.get().settings

    def now_ns(self) -> int:
        """Return its time, UTC ns."""
        return _sites.get().now_ns()

    def note(
        self, request: Request, what: str, device: str = "", incident: str = "", name: str = "", *, part: bool = False
    ) -> None:
        """Write a look or a decision into its log."""
        _sites.get().note(request, what, device, incident, name, part=part)
