"""``taskqueue audit``: is every task in the one place that its state names?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from taskqueue_core.cli.options import (
    ConfigOption,
    DataDirOption,
    LogLevelOption,
    RedisUrlOption,
    read_settings,
    refusing,
)
from taskqueue_core.cli.output import EXIT_FAILED, printable

if TYPE_CHECKING:  # it brings pydantic, which --help can do without
    from taskqueue_core.settings import Settings


RepairOption = Annotated[
    bool, typer.Option("--repair", help="First put back what is out of place, where that can be.")
]


def audit(
    *,
    repair: RepairOption = False,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Check that every task is in its place, or put it back.

    Its place is the one that its state names, and no other. Violations are printed one a line.
    Tasks that move while the audit reads look like violations: what a second look does not find
    again is not reported.

    Without --repair nothing is changed. With it, what is out of place is put back first, each
    repair printed as a line, and the audit then tells what is left. Servers and workers may go on
    working. A task that has lost its hash is gone, and a body or result that is lost stays lost.

    Without a Redis in the settings the embedded broker of --data-dir is audited; if none lives
    there, one is started for as long as the audit takes.

    \b
    Exit codes:
      0  clean, with --repair perhaps only now
      1  there are violations, with --repair: that cannot be repaired
      2  a setting is refused or the broker cannot be used; nothing was checked
    """
    import asyncio

    with refusing():
        flags = {"redis.url": redis_url, "datadir": data_dir, "loglevel": log_level}
        settings = read_settings(config, flags).settings
        violations, summary = asyncio.run(_audit(settings, repairs=repair))
    for violation in violations:
        typer.echo(printable(violation))
    if violations:
        raise typer.Exit(EXIT_FAILED)
    typer.echo(summary)


async def confirmed(look: Callable[[], Awaitable[list[str]]]) -> list[str]:
    """Return what a look finds and a second one still finds."""
    first = await look()
    second = await look() if first else []
    return [violation for violation in first if violation in second]


async def _audit(settings: Settings, *, repairs: bool) -> tuple[list[str], str]:
    """Return the violations, and a sentence for when there are none; print the repairs."""
    from taskqueue_core.broker import configured_url, connect
    from taskqueue_core.config import redact_url
    from taskqueue_core.logs import configure_logging

    configure_logging(settings.log_level)
    async with connect(settings) as broker:
        if repairs:
            async for sentence in broker.repair():
                typer.echo(f"repaired: {printable(sentence)}")
        violations = await confirmed(broker.inspection.audit)
        counts = await broker.inspection.queue_stats()
        url = redact_url(configured_url(broker.settings))
    paused = [priority.label for priority, depth in counts.depths.items() if depth.is_paused]
    return violations, (
        f"clean: every task is in its place (unfinished: {counts.backlog}, dead letters: "
        f"{counts.dead_letter_count}{', paused: ' if paused else ''}{' '.join(paused)}; "
        f"{url}, namespace {settings.queue.namespace})"
    )
