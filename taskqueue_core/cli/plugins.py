"""``taskqueue plugins list``: what is installed, and what became of it."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from taskqueue_core.cli.options import ConfigOption, LogLevelOption, read_settings, refusing
from taskqueue_core.cli.output import EXIT_FAILED, fail, print_json, print_table

if TYPE_CHECKING:  # they bring msgspec, pydantic and structlog, which --help can do without
    from taskqueue_core.config import LoadedSettings
    from taskqueue_core.plugin import PluginRecord

_HEADER = ("PLUGIN", "DISTRIBUTION", "VERSION", "STATE", "HANDLERS", "LOAD MS", "ERROR")


def list_plugins(
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON array of objects instead of a table.")
    ] = False,
    config: ConfigOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Load every installed plugin and show what became of it.

    They are loaded as a worker loads them, under the same settings.

    With --log-level error or lower, the traceback of a plugin that fails is on stderr.

    \b
    Exit codes:
      0  all plugins are loaded, or disabled by the settings
      1  a plugin failed, or two claim one task type
      2  a setting is refused
    """
    with refusing():
        loaded = read_settings(config, {"loglevel": log_level})
    records = _load(loaded)
    if as_json:
        print_json([_fields(record) for record in records])
    else:
        print_table(_HEADER, [_row(record) for record in records])
    if any(record.error for record in records):
        raise typer.Exit(EXIT_FAILED)


def _load(loaded: LoadedSettings) -> tuple[PluginRecord, ...]:
    from taskqueue_core.errors import PluginError
    from taskqueue_core.logs import configure_logging
    from taskqueue_core.plugin import PluginHost

    plugins = loaded.settings.plugins
    # The table tells of failures; tracebacks around it are for those who ask.
    is_asked = loaded.origins["loglevel"] != "default"
    configure_logging(loaded.settings.log_level if is_asked else "critical")
    try:
        # Standard output is the table's alone, whatever plugins print when they are imported.
        with contextlib.redirect_stdout(sys.stderr):
            return PluginHost.load(disabled=plugins.disabled, prefer=plugins.prefer).records
    except PluginError as error:
        fail(str(error))


def _row(record: PluginRecord) -> tuple[str, ...]:
    return (
        record.name,
        record.distribution,
        record.version,
        record.state,
        ", ".join(record.handlers),
        f"{record.load_ms:.1f}",
        record.error,
    )


def _fields(record: PluginRecord) -> dict[str, object]:
    return {
        "plugin": record.name,
        "distribution": record.distribution,
        "version": record.version,
        "state": record.state,
        "handlers": record.handlers,
        "load_ms": round(record.load_ms, 1),
        "error": record.error,
    }
