"""The command ``taskqueue``: the table of its subcommands."""

from __future__ import annotations

from typing import Annotated

import typer

from taskqueue_core._version import __version__
from taskqueue_core.cli import tasks
from taskqueue_core.cli.audit import audit
from taskqueue_core.cli.broker import broker
from taskqueue_core.cli.configuration import show_configuration
from taskqueue_core.cli.keys import list_keys, new_key, revoke_key
from taskqueue_core.cli.plugins import list_plugins
from taskqueue_core.cli.verify import verify


def _new_app(description: str) -> typer.Typer:
    return typer.Typer(
        help=description,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain help wraps paragraphs, keeps examples, and starts sooner
    )


app = _new_app("Submit and follow tasks, and look after a task queue.")
_config = _new_app("Look at the settings.")
_keys = _new_app("Make, list and revoke API keys.")
_plugins = _new_app("Look at the installed plugins.")

app.command("submit")(tasks.submit)
app.command("get")(tasks.get)
app.command("cancel")(tasks.cancel)
app.command("audit")(audit)
app.command("broker")(broker)
app.command("verify")(verify)
app.add_typer(_config, name="config")
_config.command("show")(show_configuration)
app.add_typer(_keys, name="keys")
_keys.command("new")(new_key)
_keys.command("list")(list_keys)
_keys.command("revoke")(revoke_key)
app.add_typer(_plugins, name="plugins")
_plugins.command("list")(list_plugins)


@_config.callback()
@_plugins.callback()
def _group() -> None:
    """Keep a group a group while it has one command."""


def _print_version(wanted: bool) -> None:  # noqa: FBT001 -- typer calls it so
    if wanted:
        typer.echo(f"taskqueue {__version__}")
        raise typer.Exit


@app.callback()
def _taskqueue(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def main() -> None:
    """Run the command ``taskqueue``."""
    app(prog_name="taskqueue")
