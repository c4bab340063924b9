"""``taskqueue verify``: disturb a whole system on purpose, and count every task afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taskqueue_core.cli.options import ConfigOption, read_settings, refusing
from taskqueue_core.cli.output import EXIT_FAILED, printable

if TYPE_CHECKING:  # it brings pydantic, which --help can do without
    from taskqueue_core.settings import Settings


def verify(
    *,
    minutes: Annotated[
        float,
        typer.Option(
            metavar="N", min=0.75, max=1440, show_default=False, help="How long it may take (3)."
        ),
    ] = 3.0,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="Repeat the faults of an earlier run; else they are new."),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Keep the logs, the ledger and the list of accepted tasks there."
        ),
    ] = None,
    config: ConfigOption = None,
    redis_url: Annotated[
        str | None,
        typer.Option(
            "--redis-url", metavar="URL", help="Redis to use; without one, a broker for this run."
        ),
    ] = None,
) -> None:
    """Prove on your own Redis that no task is lost, done twice, or stuck.

    Two servers and three workers are started on this machine and fed with tasks. Meanwhile they
    are killed and frozen, and their connections to Redis are cut, reset, stalled, slowed down and
    robbed of replies. Then every task that was accepted is counted: it must have ended exactly
    once, and run again only for a reason.

    Your Redis itself is not touched: everything happens in a namespace of its own, which is
    removed at the end. Without a Redis in the settings a broker is started for the run, and it is
    killed and stopped as well.

    \b
    Exit codes:
      0  every promise was kept
      1  one was broken; the violations are printed below the balance
      2  a setting is refused or Redis cannot be used

    \b
    Example:
      taskqueue verify --redis-url redis://localhost:6379 --minutes 5
    """
    with refusing():
        settings = read_settings(config, {"redis.url": redis_url}).settings
        balance, is_kept = _verify(settings, minutes, seed, keep)
    typer.echo(printable(balance))
    if not is_kept:
        raise typer.Exit(EXIT_FAILED)


def _verify(
    settings: Settings, minutes: float, seed: int | None, keep: Path | None
) -> tuple[str, bool]:
    """Return the balance, and whether there was no violation."""
    import asyncio
    import secrets

    from taskqueue_core.logs import configure_logging
    from taskqueue_core.verification import OVERHEAD_SECONDS, Plan, render, verify

    # Of this process; those of the fleet write logs of their own.
    configure_logging("error")
    plan = Plan(
        seed=secrets.randbelow(1_000_000) if seed is None else seed,
        seconds=minutes * 60 - OVERHEAD_SECONDS,
        folder=keep,
    )
    typer.echo(f"seed {plan.seed}: --seed {plan.seed} repeats these faults")
    report = asyncio.run(verify(settings, plan, lambda text: typer.echo(printable(text))))
    return render(report), not report.violations
