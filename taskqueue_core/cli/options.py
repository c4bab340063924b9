"""The flags that several commands share, and how they become settings."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taskqueue_core.cli.output import EXIT_REFUSED, fail, warn

if TYPE_CHECKING:  # it brings pydantic, which --help can do without
    from taskqueue_core.config import LoadedSettings

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings file; else the first of ./config.yaml, ./config/config.yaml and "
        "/etc/taskqueue/config.yaml that exists.",
    ),
]
RedisUrlOption = Annotated[
    str | None,
    typer.Option(
        "--redis-url",
        metavar="URL",
        help="Redis to use; without one the embedded broker of --data-dir.",
    ),
]
DataDirOption = Annotated[
    str | None,
    typer.Option(
        "--data-dir", metavar="DIR", help="Directory of the embedded broker (.taskqueue)."
    ),
]
LogLevelOption = Annotated[
    str | None,
    typer.Option(
        "--log-level",
        metavar="LEVEL",
        help="debug, info, warning, error or critical (info).",
    ),
]


def read_settings(config: Path | None, flags: Mapping[str, object]) -> LoadedSettings:
    """Return the settings of this command, their warnings told.

    Raises:
        SettingsError: they are refused.
    """
    from taskqueue_core.config import load_settings

    loaded = load_settings(config_file=config, environ=os.environ, flags=flags)
    for warning in loaded.warnings:
        warn(warning)
    return loaded


@contextmanager
def refusing() -> Iterator[None]:
    """End the command when settings are refused or the broker cannot be used."""
    from taskqueue_core.errors import TaskQueueError

    try:
        yield
    except TaskQueueError as error:
        fail(str(error), EXIT_REFUSED)
