"""``taskqueue keys``: API keys that may do some things, for some time, for one owner."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from taskqueue_core.cli.options import (
    ConfigOption,
    DataDirOption,
    LogLevelOption,
    RedisUrlOption,
    read_settings,
    refusing,
)
from taskqueue_core.cli.output import EXIT_FAILED, fail, print_json, print_table, warn

if TYPE_CHECKING:  # they bring the Redis client and pydantic, which --help can do without
    from taskqueue_core.broker import ApiKeys, StoredKey
    from taskqueue_core.settings import Settings

T = TypeVar("T")


def new_key(
    *,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",  # by itself it is --SCOPE with typer 0.27
            metavar="SCOPE",
            help="tasks:read, tasks:write, metrics or admin; may be given again.",
        ),
    ] = None,
    owner: Annotated[
        str, typer.Option(metavar="NAME", help="See and change tasks of this owner only.")
    ] = "",
    days: Annotated[
        float | None, typer.Option(metavar="N", help="Expire after so many days (never).")
    ] = None,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Make an API key and print it, which can be done only once.

    Redis keeps a digest of it; running servers accept it at once. What is submitted with a key that
    has an owner is that owner's, and other owners do not see it.

    \b
    Exit codes:
      0  made; the key is on stdout
      2  a setting, a scope or an owner is refused, or the broker cannot be used

    \b
    Examples:
      taskqueue keys new --scope tasks:write --scope tasks:read --owner acme --days 90
      taskqueue keys new --scope metrics
    """
    with refusing():
        settings = _settings(config, redis_url, data_dir, log_level)
        text, key = _run(settings, lambda keys: keys.create(scope or (), owner=owner, days=days))
    typer.echo(text)
    warn(f"keep it, it is not shown again ({', '.join(key.scopes)}; {_describe(key)})")


def list_keys(
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON array of objects instead of a table.")
    ] = False,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """List the API keys in Redis, expired ones too.

    They are those that `taskqueue keys new` has made; the id of one is between the underscores of
    its text. Keys of the setting auth.apikeys are not among them.

    \b
    Exit codes:
      0  listed
      2  a setting is refused or the broker cannot be used
    """
    from taskqueue_core.codec import format_time

    with refusing():
        settings = _settings(config, redis_url, data_dir, log_level)
        entries = _run(settings, lambda keys: keys.entries())
    rows = [
        {
            "id": name,
            "scopes": list(key.scopes),
            "owner": key.owner,
            "created_at": format_time(key.created_at_ms),
            "expires_at": None if key.expires_at_ms is None else format_time(key.expires_at_ms),
        }
        for name, key in entries.items()
    ]
    if as_json:
        print_json(rows)
        return
    header = ("ID", "SCOPES", "OWNER", "CREATED", "EXPIRES")
    print_table(header, [[_cell(value) for value in row.values()] for row in rows])


def revoke_key(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the key, not its text.")],
    *,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Revoke an API key: servers refuse it within five seconds.

    WebSockets that were opened with it are closed a few seconds later.

    \b
    Exit codes:
      0  revoked
      1  there is no key with this id
      2  a setting is refused or the broker cannot be used
    """
    from taskqueue_core.errors import NotFoundError

    with refusing():
        settings = _settings(config, redis_url, data_dir, log_level)
        try:
            _run(settings, lambda keys: keys.revoke(key_id))
        except NotFoundError as error:
            fail(f"{error}; `taskqueue keys list` shows the ids", EXIT_FAILED)
    typer.echo(f"revoked {key_id}")


def _settings(
    config: ConfigOption,
    redis_url: RedisUrlOption,
    data_dir: DataDirOption,
    log_level: LogLevelOption,
) -> Settings:
    from taskqueue_core.logs import configure_logging

    flags = {"redis.url": redis_url, "datadir": data_dir, "loglevel": log_level}
    settings = read_settings(config, flags).settings
    configure_logging(settings.log_level)
    return settings


def _run(settings: Settings, call: Callable[[ApiKeys], Awaitable[T]]) -> T:
    """Return what a call to the keys of the namespace answers."""
    import asyncio

    from taskqueue_core.broker import connect

    async def run() -> T:
        async with connect(settings) as broker:
            return await call(broker.api_keys)

    return asyncio.run(run())


def _describe(key: StoredKey) -> str:
    from taskqueue_core.codec import format_time

    whose = f"owner {key.owner}" if key.owner else "tasks of all owners"
    if key.expires_at_ms is None:
        return f"{whose}, does not expire"
    return f"{whose}, until {format_time(key.expires_at_ms)}"


def _cell(value: str | list[str] | None) -> str:
    return " ".join(value) if isinstance(value, list) else value or "-"
