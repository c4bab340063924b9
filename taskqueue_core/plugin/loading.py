"""Load one plugin, alone: what it offers, or the reason why it cannot be used."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any, Final

import pluggy

from taskqueue_core.errors import PluginError
from taskqueue_core.plugin import hookspecs
from taskqueue_core.plugin.handler import Handler

#: Every hook there is, in the order of the specification.
HOOK_NAMES: Final = tuple(name for name in vars(hookspecs) if name.startswith("taskqueue_"))
REGISTER_HOOK: Final = "taskqueue_register_handlers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """One plugin's implementation of one hook, with the arguments it wants to see."""

    plugin: str
    function: Callable[..., object]
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a plugin brings: handlers by task type, listeners by hook name."""

    handlers: dict[str, Handler]
    listeners: dict[str, Listener]


def import_plugin(entry_point: EntryPoint) -> object:
    """Import what an entry point names, after the plugin's API version was compared with ours.

    Raises:
        PluginError: the plugin was written for another API version.
        BaseException: whatever the plugin's own code raises at import.
    """
    plugin = entry_point.load()
    wanted = getattr(sys.modules[entry_point.module], "TASKQUEUE_API", None)
    if wanted is not None:
        _check_api(wanted)
    return plugin


def examine(plugin: object, name: str) -> Offer:
    """Check a plugin's hooks and collect what it offers.

    ``plugin`` is a module, an object with hook implementations, or a single handler.

    Raises:
        PluginError: a hook or handler is wrong, or there is none at all.
        BaseException: whatever the plugin's own registration hook raises.
    """
    if isinstance(plugin, Handler):
        return Offer(handlers=_by_type([plugin]), listeners={})
    if inspect.isclass(plugin):
        raise PluginError(f"{plugin.__qualname__} is a class: name an instance of it")
    listeners = _listeners_of(plugin, name)
    found = list(_module_handlers(plugin)) if isinstance(plugin, ModuleType) else []
    if REGISTER_HOOK in listeners:
        found += _registered_handlers(listeners[REGISTER_HOOK])
    if not found and not listeners:
        raise PluginError(f"{plugin!r} has no handler and no hook: decorate one with @handler(...)")
    return Offer(handlers=_by_type(found), listeners=listeners)


def _check_api(wanted: object) -> None:
    ours = ".".join(map(str, hookspecs.API_VERSION))
    match wanted:
        case (int(major), int(minor)):
            pass
        case _:
            raise PluginError(f"TASKQUEUE_API is (major, minor), got {wanted!r}")
    problem = f"it needs plugin API {major}.{minor}, this taskqueue-service has {ours}"
    if (major, minor) > hookspecs.API_VERSION:
        raise PluginError(f"{problem}: upgrade taskqueue-service, or install an older plugin")
    if major < hookspecs.API_VERSION[0]:
        raise PluginError(f"{problem}: upgrade the plugin")


def _module_handlers(module: ModuleType) -> Iterable[Handler]:
    return (value for value in vars(module).values() if isinstance(value, Handler))


def _listeners_of(plugin: object, name: str) -> dict[str, Listener]:
    """Check the hooks in a manager of the plugin's own: pluggy stops at the first bad plugin."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(plugin, name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(" ".join(str(error).split())) from error
    listeners = {}
    for hook_name in HOOK_NAMES:
        for found in getattr(manager.hook, hook_name).get_hookimpls():
            if found.wrapper or found.hookwrapper:
                raise PluginError(f"{hook_name} is a hook wrapper: make it a plain hookimpl")
            if inspect.iscoroutinefunction(found.function):
                raise PluginError(f"{hook_name} is async: hooks are plain functions")
            listeners[hook_name] = Listener(
                plugin=name, function=found.function, arguments=tuple(found.argnames)
            )
    return listeners


def _registered_handlers(listener: Listener) -> list[Handler]:
    found: list[Handler] = []

    def register(candidate: Handler) -> None:
        _check_handler(candidate)
        found.append(candidate)

    arguments: dict[str, Any] = {"register": register}
    listener.function(*(arguments[name] for name in listener.arguments))
    return found


def _check_handler(candidate: object) -> None:
    if not isinstance(candidate, Handler):
        raise PluginError(f"register() takes handlers, got {candidate!r}: use @handler(...)")


def _by_type(found: Iterable[Handler]) -> dict[str, Handler]:
    """Key handlers by type; one object under two names, or registered twice, is one handler."""
    handlers: dict[str, Handler] = {}
    for one in found:
        if handlers.setdefault(one.task_type, one) is not one:
            raise PluginError(f'it has two handlers for task type "{one.task_type}"')
        one.schema()  # raises for annotations that name nothing or cannot be validated
    return handlers
