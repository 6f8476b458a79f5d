"""The receiver as one process: ingest in a thread, pages in the main thread, and an orderly end."""

import logging
import re
import threading
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Final

import uvicorn
from sqlalchemy import Engine

from agent import clock
from agent.errors import ConfigError, RoadwitnessError, UplinkError
from receiver import commands, db, exposure, packages
from receiver.authority.revoking import Revocations
from receiver.broker import EmbeddedBroker
from receiver.ending import Ending
from receiver.filestore import FileStore
from receiver.metrics import Metrics, Timed
from receiver.mqtt import Reception
from receiver.registry.worker import Eraser
from receiver.settings import HttpSettings, ReceiverSettings
from receiver.webhooks.delivery import Webhooks

log = logging.getLogger(__name__)

END_S: Final = 5  # open requests may take so long to finish when the process ends


def serve(settings: ReceiverSettings, embedded_broker: int | None = None, pages: bool = True) -> None:
    """Receive, and serve the pages where wanted, until SIGTERM or SIGINT.

    `embedded_broker` is the port of a broker of our own, 0 for any. Raise RoadwitnessError when a part cannot start
    or the ingest thread died.
    """
    with ExitStack() as stack:
        engine = db.open_database(settings.database)
        stack.callback(engine.dispose)
        if embedded_broker is not None:
            broker = EmbeddedBroker(embedded_broker)
            stack.callback(broker.close)
            settings = replace(settings, broker=replace(settings.broker, url=broker.open()))
            log.info("broker on %s", settings.broker.url)
        ending, died = Ending(), threading.Event()
        stack.callback(ending.close)
        files = FileStore(settings.files, settings.database)
        measured = Metrics(engine)
        server = _server(engine, settings, files, measured) if pages else None

        def end() -> None:
            if not reception.stopping:
                died.set()
            ending.ask()
            if server is not None:
                server.should_exit = True

        on_package = partial(packages.arrived, engine, files)
        key = commands.command_key(settings)
        reception = Reception(engine, settings.broker, settings.group, end, files, on_package, key)
        stack.callback(reception.stop)
        measured.watch(reception)
        if settings.metrics.port:
            measured.serve(settings.metrics.port, stack)
        eraser = Eraser(engine, files)
        stack.callback(eraser.stop)
        eraser.start()
        revocations = Revocations(engine, settings)
        stack.callback(revocations.stop)
        revocations.start()
        if settings.webhooks:
            webhooks = Webhooks(engine, settings.webhooks)
            stack.callback(webhooks.stop)
            webhooks.start()
        # Before uvicorn, which raises the signals that ended it once more: they must find a handler, not the default.
        ending.on_signals()
        reception.start()
        if server is not None:
            log.info("pages on %s", exposure.address(settings.http))
            server.run()
        else:
            ending.wait()
        if died.is_set():
            raise RoadwitnessError("receiver: the ingest thread died; its error stands above; please report it")


def serve_in_thread(engine: Engine, http: str, stack: ExitStack, files: FileStore | None = None) -> str:
    """Serve the pages on HOST:PORT in a thread until `stack` closes; return their address. Port 0 takes a free one.

    Without `files` no package is shown.
    """
    database = engine.url.render_as_string(hide_password=False)
    server = _server(engine, ReceiverSettings(database=database, http=parse_http(http)), files)
    thread = threading.Thread(target=server.run, name="pages", daemon=True)

    def stop() -> None:
        server.should_exit = True
        thread.join(END_S)

    stack.callback(stop)
    thread.start()
    pause = threading.Event()
    while not server.started:
        if not thread.is_alive():
            raise UplinkError(f"pages on {http}: cannot listen there; choose another --http address")
        clock.wait(pause, 0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    return f"http://{http.rpartition(':')[0]}:{port}/"


def parse_http(text: str) -> HttpSettings:
    """Parse HOST:PORT; raise ConfigError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise ConfigError(f"--http {text!r}: write HOST:PORT, e.g. 127.0.0.1:8080")
    return HttpSettings(host.strip("[]"), int(port))


def _server(
    engine: Engine, settings: ReceiverSettings, files: FileStore | None, measured: Metrics | None = None
) -> uvicorn.Server:
    from receiver.web import create_app

    http = settings.http
    exposure.check(http)
    app = create_app(engine, settings, files=files)
    config = uvicorn.Config(
        app if measured is None else Timed(app, measured.answered),
        host=http.host,
        port=http.port,
        log_level="warning",
        ssl_certfile=http.certificate or None,
        ssl_keyfile=http.key or None,
        proxy_headers=bool(http.proxies),
        forwarded_allow_ips=list(http.proxies),
        server_header=False,
        timeout_graceful_shutdown=END_S,
    )
    return uvicorn.Server(config)
