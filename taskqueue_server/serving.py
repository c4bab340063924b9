"""A server process: uvicorn on the socket that the command line has bound.

``taskqueue_server.cli`` runs ``python -m taskqueue_server.serving FD`` with its settings in the
environment; the process ends with its parent.
"""

from __future__ import annotations

import logging
import os
import resource
import socket
import sys
import time
from typing import Final

import structlog
import uvicorn

from taskqueue_core.config import load_settings
from taskqueue_core.logs import configure_logging
from taskqueue_core.processes import watch_parent
from taskqueue_core.settings import Settings
from taskqueue_server.app import Application, create_app
from taskqueue_server.connections import RESERVE, SWEEP_SECONDS, Connections
from taskqueue_server.framing import EventsProtocol
from taskqueue_server.http_protocol import HttpProtocol
from taskqueue_server.websocket import MAX_FRAME_BYTES

#: How long requests under way may take once the process is told to stop.
SHUTDOWN_SECONDS: Final = 10
#: Between two pings to a WebSocket client, and until it must have answered.
PING_SECONDS: Final = 20.0
#: What a process has open beside its clients' connections: Redis, the log, the loop.
_OTHER_FILES: Final = 64
_log = structlog.get_logger(__name__)


class Server(uvicorn.Server):
    """uvicorn, with limits, and a proper goodbye to those who listen to events."""

    def __init__(self, app: Application, settings: Settings) -> None:
        super().__init__(make_config(app, settings))
        self._application = app
        self._connections = self.server_state = Connections(settings.server)
        self._sweep_at = 0.0

    async def on_tick(self, counter: int) -> bool:
        """Look at the connections now and then; uvicorn calls this ten times a second."""
        now = time.monotonic()
        if now >= self._sweep_at:
            self._connections.sweep(now)
            self._sweep_at = now + SWEEP_SECONDS
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell probes, close the WebSockets, then everything else."""
        self._application.health.stop()
        await self._application.hub.close()
        await super().shutdown(sockets)


def make_config(app: Application, settings: Settings) -> uvicorn.Config:
    """Return how uvicorn serves: fast, quiet, and without believing any proxy."""
    return uvicorn.Config(
        app,
        lifespan="on",
        http=HttpProtocol,
        ws=EventsProtocol,
        ws_max_size=MAX_FRAME_BYTES,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
        ws_per_message_deflate=False,
        timeout_keep_alive=max(1, round(settings.server.idle_timeout_seconds)),
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
    )


def allow_files(settings: Settings) -> None:
    """Raise the number of open files as far as the limits of the settings need it, and it may be.

    Without a file for it a connection would be closed unseen, one that asks for health too.
    """
    wanted = settings.server.max_connections + RESERVE + settings.redis.pool_size + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        _log.warning(
            "open files are limited: raise the limit, or lower server.maxconnections",
            allowed=allowed,
            wanted=wanted,
        )


def main(descriptor: int) -> None:
    """Serve on the listening socket ``descriptor`` until SIGTERM, or the end of the parent."""
    watch_parent()
    settings = load_settings(environ=os.environ, search=()).settings
    configure_logging(settings.log_level)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    allow_files(settings)
    listener = socket.socket(fileno=descriptor)
    Server(create_app(settings), settings).run(sockets=[listener])


if __name__ == "__main__":
    main(int(sys.argv[1]))
