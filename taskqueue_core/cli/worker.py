"""The command ``taskqueue-worker``: one worker in this process, or several in children."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from taskqueue_core.cli.options import (
    ConfigOption,
    DataDirOption,
    LogLevelOption,
    RedisUrlOption,
)
from taskqueue_core.cli.output import EXIT_REFUSED

if TYPE_CHECKING:  # they bring pydantic and subprocess, which --help can do without
    from taskqueue_core.broker.embedded import EmbeddedBroker
    from taskqueue_core.config import LoadedSettings
    from taskqueue_core.processes import ChildSpec
    from taskqueue_core.settings import Settings

#: Beyond the time that running tasks have to finish: what all the farewells may take.
_MARGIN_SECONDS: Final = 15.0

worker_app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)


@worker_app.command()
def work(
    *,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
    concurrency: Annotated[
        int | None, typer.Option(metavar="N", help="Tasks at a time in each process (10).")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(metavar="N", help="Worker processes, each a worker (1).")
    ] = None,
    queues: Annotated[
        str | None, typer.Option(metavar="A,B", help="Queues to serve (all of them).")
    ] = None,
    worker_id: Annotated[
        str | None,
        typer.Option(
            "--id", metavar="ID", help="Name of the worker; of several, ID-1 to ID-N (generated)."
        ),
    ] = None,
) -> None:
    """Run the tasks of all installed plugins until SIGTERM or Ctrl-C.

    Told to stop, it takes no more tasks and lets those that run finish for the time of the setting
    worker.shutdowntimeout (30s); told again, it hurries. Everything else is a setting too: a
    TASKQUEUE_<SECTION>_<NAME> variable, or a line of the settings file. `taskqueue config show`
    lists them all.

    \b
    Exit codes:
      0  stopped, and every task it had taken is finished
      2  a setting is refused, or the embedded broker or a plugin cannot start
      3  stopped with tasks unfinished; they were given back to other workers
      4  (a process of several) handlers did not stop; it is started again

    \b
    Examples:
      taskqueue-worker
      taskqueue-worker --redis-url redis://127.0.0.1:6379 --processes 4 --queues mail,reports
    """
    import os

    from taskqueue_core.config import load_settings
    from taskqueue_core.errors import TaskQueueError

    flags = {
        "redis.url": redis_url,
        "datadir": data_dir,
        "loglevel": log_level,
        "worker.concurrency": concurrency,
        "worker.processes": processes,
        "worker.queues": queues,
        "worker.id": worker_id,
    }
    try:
        code = _run(load_settings(config_file=config, environ=os.environ, flags=flags))
    except TaskQueueError as error:
        typer.echo(f"taskqueue-worker: {error}", err=True)
        code = EXIT_REFUSED
    except KeyboardInterrupt:
        # Before there was anybody who listens for it.
        code = 0
    raise typer.Exit(code)


def _run(loaded: LoadedSettings) -> int:
    import structlog

    from taskqueue_core.logs import configure_logging

    settings = loaded.settings
    configure_logging(settings.log_level)
    for warning in loaded.warnings:
        structlog.get_logger("taskqueue.worker").warning(warning)
    from taskqueue_core.broker import located
    from taskqueue_core.tracing import check_tracing

    check_tracing(enabled=settings.tracing.enabled)
    with located(settings) as (found, embedded):
        # A worker whose handlers hang is replaced, and a broker would end with its process.
        if settings.worker.processes > 1 or (embedded and embedded.is_owner):
            return _supervise(found, embedded)
        from taskqueue_core.worker import run_worker

        return run_worker(found)


def _supervise(settings: Settings, embedded: EmbeddedBroker | None) -> int:
    from taskqueue_core.processes import Supervisor

    return Supervisor(
        children(settings),
        grace_seconds=settings.worker.shutdown_timeout_seconds + _MARGIN_SECONDS,
        housekeeping=embedded.revive if embedded else lambda: None,
    ).run()


def children(settings: Settings) -> list[ChildSpec]:
    """Return the worker processes; ``settings`` name the broker.

    Raises:
        SettingsError: with its number, ``worker.id`` is too long for an id.
    """
    import os
    import sys

    from taskqueue_core.config import child_environ
    from taskqueue_core.errors import SettingsError
    from taskqueue_core.models import is_name
    from taskqueue_core.processes import ChildSpec

    specs = []
    for number in range(1, settings.worker.processes + 1):
        one = settings.worker.id
        if one and settings.worker.processes > 1:
            one = f"{one}-{number}"
        if one and not is_name(one):
            raise SettingsError(f"worker.id is too long for several processes: {one}")
        worker = settings.worker.model_copy(update={"id": one, "processes": 1})
        specs.append(
            ChildSpec(
                name=f"worker {number}",
                argv=[sys.executable, "-m", "taskqueue_core.worker"],
                env=child_environ(settings.model_copy(update={"worker": worker}), os.environ),
            )
        )
    return specs


def worker_main() -> None:
    """Run the command ``taskqueue-worker``."""
    worker_app(prog_name="taskqueue-worker")
