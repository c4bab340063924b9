"""``taskqueue submit``, ``get`` and ``cancel``: tasks over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from taskqueue_core.cli import submission
from taskqueue_core.cli.output import EXIT_FAILED, EXIT_UNFINISHED, fail, print_json

if TYPE_CHECKING:  # it brings httpx, which --help can do without
    from taskqueue_core.cli.api import Api

# Not TASKQUEUE_...: those are settings of the service, and an unknown one stops its start.
ServerOption = Annotated[
    str, typer.Option("--server", metavar="URL", envvar="TQ_SERVER", help="Where the server is.")
]
ApiKeyOption = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        metavar="KEY",
        envvar="TQ_API_KEY",
        help="API key; better given in the variable, for others can read command lines.",
    ),
]
TaskIdArgument = Annotated[str, typer.Argument(metavar="ID", help="Id of the task.")]
WaitOption = Annotated[
    float | None,
    typer.Option("--wait", metavar="SECONDS", min=0, help="Wait so long for the task to end."),
]
_SERVER: Final = "http://127.0.0.1:8080"


def submit(  # noqa: PLR0913 -- one parameter per flag
    task_type: Annotated[
        str, typer.Argument(metavar="TYPE", help="Type of the task, such as echo.")
    ],
    *,
    payload: Annotated[
        str | None,
        typer.Option(
            metavar="JSON", help="A JSON object, @FILE to read it there, or - for stdin ({})."
        ),
    ] = None,
    priority: Annotated[
        int | None,
        typer.Option(
            "--priority",
            metavar="PRIORITY",
            parser=submission.parse_priority,
            help="low, normal, high, critical or 0..3 (normal).",
        ),
    ] = None,
    max_retries: Annotated[
        int | None, typer.Option(metavar="N", help="Retries after the first attempt.")
    ] = None,
    timeout: Annotated[
        int | None, typer.Option(metavar="SECONDS", help="How long one attempt may take.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Not before, such as 2030-01-15T12:00:00Z."),
    ] = None,
    delay: Annotated[
        str | None,
        typer.Option("--in", metavar="DURATION", help="Not before, from now: 30s, 5m or 1h30m."),
    ] = None,
    queue: Annotated[
        str | None, typer.Option(metavar="NAME", help="Queue (the one of the type's handler).")
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A note; may be given again.")
    ] = None,
    wait: WaitOption = None,
    server: ServerOption = _SERVER,
    api_key: ApiKeyOption = None,
) -> None:
    """Submit a task and print it as JSON.

    \b
    Exit codes:
      0  accepted; with --wait: completed
      1  refused, or no server; with --wait: failed, dead_letter or cancelled
      2  the command line is wrong
      4  with --wait: not ended in time

    \b
    Examples:
      taskqueue submit echo --payload '{"hello": "world"}' --wait 10
      taskqueue submit email --payload @mail.json --priority high --metadata user=17
      taskqueue submit report --in 1h30m --max-retries 0
    """
    body = submission.encode(
        {
            "type": task_type,
            "priority": priority,
            "max_retries": max_retries,
            "timeout": timeout,
            "queue": queue,
            "scheduled_at": submission.scheduled_at(at, delay),
            "metadata": submission.parse_metadata(metadata or []),
        },
        submission.read_payload(payload),
    )
    with _api(server, api_key) as api:
        task = api.create(body)
        if wait is not None:
            task = api.wait(task, wait)
    print_json(task)
    if wait is not None:
        raise typer.Exit(_exit_code(task))


def get(
    task_id: TaskIdArgument,
    *,
    wait: WaitOption = None,
    server: ServerOption = _SERVER,
    api_key: ApiKeyOption = None,
) -> None:
    """Print a task as JSON, at once or when it has ended.

    \b
    Exit codes:
      0  completed
      1  failed, dead_letter or cancelled; or no such task, or no server
      2  the command line is wrong
      4  not ended; with --wait: not in time

    \b
    Example:
      taskqueue get 01980f6e-5c1a-7c3e-9a51-0c8f6a2d4e00 --wait 60
    """
    with _api(server, api_key) as api:
        task = api.wait(api.get(task_id), wait or 0)
    print_json(task)
    raise typer.Exit(_exit_code(task))


def cancel(
    task_id: TaskIdArgument,
    *,
    running: Annotated[
        bool, typer.Option("--running", help="Ask the worker of a running task to stop it.")
    ] = False,
    server: ServerOption = _SERVER,
    api_key: ApiKeyOption = None,
) -> None:
    """Cancel a task and print it as JSON.

    Pending, scheduled and retrying tasks are cancelled at once. Running ones are refused, or with
    --running asked to stop: they end as cancelled unless they are completed all the same.

    \b
    Exit codes:
      0  cancelled; with --running: or asked to stop
      1  it runs or has ended, or there is no such task, or no server
      2  the command line is wrong

    \b
    Example:
      taskqueue cancel 01980f6e-5c1a-7c3e-9a51-0c8f6a2d4e00 --running
    """
    with _api(server, api_key) as api:
        task = api.cancel(task_id, running=running)
    print_json(task)


@contextmanager
def _api(server: str, api_key: str | None) -> Iterator[Api]:
    """Yield the server; end the command when it refuses or cannot be reached."""
    from taskqueue_core.cli.api import Api, ApiError

    try:
        with closing(Api(server, api_key)) as api:
            yield api
    except ApiError as error:
        fail(str(error))


def _exit_code(task: dict[str, Any]) -> int:
    """Return what the state of a task means to a script."""
    from taskqueue_core.states import TERMINAL, TaskState

    if task["state"] == TaskState.COMPLETED:
        return 0
    return EXIT_FAILED if task["state"] in TERMINAL else EXIT_UNFINISHED
