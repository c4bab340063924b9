"""The command ``taskqueue-server``: reads the settings, finds the broker, starts the processes."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final, NoReturn

import structlog
import typer

from taskqueue_core.config import LoadedSettings, child_environ, load_settings, redact_url
from taskqueue_core.errors import SettingsError, TaskQueueError
from taskqueue_core.logs import configure_logging
from taskqueue_core.processes import (
    EXIT_BAD_CONFIGURATION,
    ChildSpec,
    Supervisor,
    bind_listener,
)
from taskqueue_core.settings import Settings
from taskqueue_core.tracing import FLUSH_SECONDS, check_tracing
from taskqueue_server.exposure import check_auth_settings, has_credentials

#: Beyond the worker's own time to finish: what closing everything may take.
_MARGIN_SECONDS: Final = 5.0
#: Where server processes count their requests together; see ``taskqueue_server.metrics``, which is
#: not imported here for it would have this process count too.
_SHARED_METRICS: Final = "PROMETHEUS_MULTIPROC_DIR"
_log = structlog.get_logger(__name__)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def serve(  # noqa: PLR0913 -- one parameter per flag
    *,
    config: Annotated[
        Path | None, typer.Option(help="Settings file; else ./config.yaml if there is one.")
    ] = None,
    redis_url: Annotated[
        str | None,
        typer.Option(help="Redis to use; without one the embedded broker of --data-dir."),
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option(help="Directory of the embedded broker (.taskqueue).")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning, error or critical (info).")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (127.0.0.1).")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on, 0 for any free one (8080).")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Server processes (1).")] = None,
    dev: Annotated[
        bool, typer.Option("--dev", help="Run one task worker too: a whole system in one command.")
    ] = False,
    insecure_no_auth: Annotated[
        bool,
        typer.Option(
            "--insecure-no-auth",
            help="Allow an address that others can reach without authentication.",
        ),
    ] = False,
) -> None:
    """Serve the task queue over HTTP and WebSocket until SIGTERM or Ctrl-C.

    Every setting can also come from a TASKQUEUE_<SECTION>_<NAME> variable or the settings file: a
    flag wins over a variable, a variable over the file.
    """
    flags: dict[str, object] = {
        "redis.url": redis_url,
        "datadir": data_dir,
        "loglevel": log_level,
        "server.host": host,
        "server.port": port,
        "server.workers": workers,
    }
    try:
        loaded = load_settings(config_file=config, environ=os.environ, flags=flags)
        code = _run(loaded, has_worker=dev, is_open_on_purpose=insecure_no_auth)
    except TaskQueueError as error:
        _fail(error)
    raise typer.Exit(code)


def _run(loaded: LoadedSettings, *, has_worker: bool, is_open_on_purpose: bool) -> int:
    # Imported here: --help and refused settings need no Redis client.
    from taskqueue_core.broker import located

    settings = loaded.settings
    configure_logging(settings.log_level)
    for warning in loaded.warnings:
        _log.warning(warning)
    check_auth_settings(settings, is_open_on_purpose=is_open_on_purpose)
    check_tracing(enabled=settings.tracing.enabled)
    if settings.auth.enabled and not has_credentials(settings):
        _log.warning(
            "auth.apikeys and auth.jwtsecret are not set: only keys of `taskqueue keys new` will do"
        )
    with (
        bind_listener(settings.server.host, settings.server.port) as listener,
        located(settings) as (found, embedded),
        TemporaryDirectory(prefix="taskqueue-metrics-") as shared,
    ):
        _announce(found, listener)
        children = list(_servers(found, listener, shared))
        if has_worker:
            children.append(_worker(found))
        return Supervisor(
            children,
            grace_seconds=settings.worker.shutdown_timeout_seconds
            + _MARGIN_SECONDS
            + FLUSH_SECONDS * settings.tracing.enabled,
            housekeeping=embedded.revive if embedded else lambda: None,
        ).run()


def _announce(settings: Settings, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    _log.info("serving", url=f"http://{shown}:{port}", redis=redact_url(settings.redis.url))


def _servers(settings: Settings, listener: socket.socket, shared: str) -> Iterator[ChildSpec]:
    environment = child_environ(settings, os.environ)
    if settings.server.workers > 1:
        environment[_SHARED_METRICS] = shared
    descriptor = listener.fileno()
    for number in range(1, settings.server.workers + 1):
        yield ChildSpec(
            name=f"server-{number}",
            argv=[sys.executable, "-m", "taskqueue_server.serving", str(descriptor)],
            env=environment,
            pass_fds=[descriptor],
        )


def _worker(settings: Settings) -> ChildSpec:
    argv = [sys.executable, "-m", "taskqueue_core.worker"]
    return ChildSpec(name="worker", argv=argv, env=child_environ(settings, os.environ))


def _fail(error: TaskQueueError) -> NoReturn:
    typer.echo(f"taskqueue-server: {error}", err=True)
    raise typer.Exit(EXIT_BAD_CONFIGURATION if isinstance(error, SettingsError) else 1)


def main() -> None:
    """Run the command."""
    app()
