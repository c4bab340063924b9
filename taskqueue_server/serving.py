"""A server process: uvicorn on the socket that the command line has bound.

``taskqueue_server.cli`` runs ``python -m taskqueue_server.serving FD`` with its settings in the
environment; the process ends with its parent.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from typing import Final

import uvicorn

from taskqueue_core.config import load_settings
from taskqueue_core.logs import configure_logging
from taskqueue_core.processes import watch_parent
from taskqueue_core.settings import Settings
from taskqueue_server.app import Application, create_app
from taskqueue_server.framing import EventsProtocol
from taskqueue_server.websocket import MAX_FRAME_BYTES

#: How long requests under way may take once the process is told to stop.
SHUTDOWN_SECONDS: Final = 10
#: Between two pings to a WebSocket client, and until it must have answered.
PING_SECONDS: Final = 20.0


class Server(uvicorn.Server):
    """uvicorn, with a proper goodbye to those who listen to events."""

    def __init__(self, app: Application, settings: Settings) -> None:
        super().__init__(make_config(app, settings))
        self._application = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the WebSockets, then everything else."""
        await self._application.hub.close()
        await super().shutdown(sockets)


def make_config(app: Application, settings: Settings) -> uvicorn.Config:
    """Return how uvicorn serves: fast, quiet, and without believing any proxy."""
    return uvicorn.Config(
        app,
        lifespan="on",
        http="httptools",
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


def main(descriptor: int) -> None:
    """Serve on the listening socket ``descriptor`` until SIGTERM, or the end of the parent."""
    watch_parent()
    settings = load_settings(environ=os.environ, search=()).settings
    configure_logging(settings.log_level)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    listener = socket.socket(fileno=descriptor)
    Server(create_app(settings), settings).run(sockets=[listener])


if __name__ == "__main__":
    main(int(sys.argv[1]))
