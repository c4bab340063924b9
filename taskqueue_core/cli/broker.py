"""``taskqueue broker``: the embedded broker alone, in the foreground, with a TCP port."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import typer

from taskqueue_core.cli.options import ConfigOption, DataDirOption, read_settings, refusing
from taskqueue_core.cli.output import warn

if TYPE_CHECKING:  # they bring pydantic and subprocess, which --help can do without
    from taskqueue_core.broker.embedded import EmbeddedBroker
    from taskqueue_core.settings import Settings

_DEFAULT_PORT: Final = 6379
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost"})


def broker(*, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Run the embedded broker of --data-dir until Ctrl-C or SIGTERM.

    It listens on 127.0.0.1, on the port of the setting redis.addr (6379). The URL that reaches it
    is printed on stdout, password included. If one already runs there, its URL is printed and the
    command ends.

    \b
    Exit codes:
      0  stopped, or there was one already
      2  a setting is refused or the broker cannot run here

    \b
    Example:
      TASKQUEUE_REDIS_ADDR=127.0.0.1:7000 taskqueue broker
    """
    import asyncio

    from taskqueue_core.broker.embedded import EmbeddedBroker

    with refusing():
        settings = read_settings(config, {"datadir": data_dir}).settings
        with EmbeddedBroker(settings.data_dir, port=_port(settings)) as embedded:
            if embedded.is_owner:
                asyncio.run(_keep(embedded))
            else:
                typer.echo(embedded.tcp_url)
                warn(f"it runs already (pid {embedded.pid})")


def _port(settings: Settings) -> int:
    from taskqueue_core.errors import SettingsError

    if not settings.redis.addr:
        return _DEFAULT_PORT
    host, _, port = settings.redis.addr.rpartition(":")
    if host not in _LOOPBACK:
        raise SettingsError(
            f"redis.addr names {host}, but this broker listens on 127.0.0.1 only: set redis.addr "
            "to 127.0.0.1 and a port, or leave it out"
        )
    if not 1 <= int(port) <= 65535:
        raise SettingsError(f"redis.addr should have a port from 1 to 65535, got {port}")
    return int(port)


async def _keep(embedded: EmbeddedBroker) -> None:
    """Say where the broker is and keep it running until a signal comes."""
    import asyncio
    import signal

    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    typer.echo(embedded.tcp_url)
    warn(f"the broker of {embedded.data_dir} runs (pid {embedded.pid}); Ctrl-C stops it")
    while not stopping.is_set():
        try:
            async with asyncio.timeout(1.0):
                await stopping.wait()
        except TimeoutError:
            if embedded.revive():
                warn(f"the broker had ended and was started again (pid {embedded.pid})")
