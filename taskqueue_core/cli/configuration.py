"""``taskqueue config show``: every setting and where it came from."""

from __future__ import annotations

from typing import Annotated

import typer

from taskqueue_core.cli.options import (
    ConfigOption,
    DataDirOption,
    LogLevelOption,
    RedisUrlOption,
    read_settings,
    refusing,
)
from taskqueue_core.cli.output import print_json, print_table


def show_configuration(
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON array of objects instead of a table.")
    ] = False,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Show every setting, its value and its origin.

    They are what any command started here would use. A flag wins over a variable, a variable over
    the file, the file over the default. Secrets are hidden.

    \b
    Exit codes:
      0  shown
      2  a setting is refused; the message says which one and why
    """
    with refusing():
        loaded = read_settings(
            config, {"redis.url": redis_url, "datadir": data_dir, "loglevel": log_level}
        )
    from taskqueue_core.config import describe

    rows = describe(loaded)
    if as_json:
        print_json([dict(zip(("key", "value", "origin"), row, strict=True)) for row in rows])
    else:
        print_table(("KEY", "VALUE", "ORIGIN"), rows)
