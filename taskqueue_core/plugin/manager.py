"""The plugin host: every installed plugin, loaded so that a broken one hurts only itself.

A host is a value: what it found when it was made. Nothing is kept in this module.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final

import msgspec
import structlog

from taskqueue_core.errors import PluginError
from taskqueue_core.logs import Throttle
from taskqueue_core.models import HandlerInfo
from taskqueue_core.plugin.discovery import Candidate, find_candidates, normalize
from taskqueue_core.plugin.handler import Handler
from taskqueue_core.plugin.loading import HOOK_NAMES, Offer, examine, import_plugin
from taskqueue_core.plugin.schemas import HandlerSchemas

_log = structlog.get_logger("taskqueue.plugins")

#: Most bytes of schemas that a worker publishes with its registration.
PUBLISHED_BYTES: Final = 524_288

#: Log lines a minute for one listener that keeps failing: it may be called for every task.
_FAILURES_PER_MINUTE: Final = 3


class PluginState(StrEnum):
    """What became of a plugin when the host was loaded."""

    LOADED = "loaded"
    FAILED = "failed"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginRecord:
    """One entry point and what became of it.

    ``name`` is the entry point's. ``handlers`` are the task types it offers, ``load_ms`` is the
    time its import and checks took, ``error`` is empty unless it failed.
    """

    name: str
    distribution: str
    version: str
    state: PluginState
    error: str = ""
    handlers: tuple[str, ...] = ()
    load_ms: float = 0.0

    @property
    def label(self) -> str:
        """Return the distribution with its version, as messages name it."""
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True, slots=True)
class _Loaded:
    record: PluginRecord
    offer: Offer


class PluginHost:
    """The handlers and hooks of all plugins of a process."""

    def __init__(
        self, loaded: Iterable[tuple[PluginRecord, Offer]], prefer: Mapping[str, str] | None = None
    ) -> None:
        """Join what the plugins offer; use ``load`` or ``of`` instead.

        Raises:
            PluginError: two plugins claim one task type, or ``prefer`` names an unknown one.
        """
        plugins = [_Loaded(record, offer) for record, offer in loaded]
        self.records = tuple(plugin.record for plugin in plugins)
        served = _decide(plugins, prefer or {})
        handlers = {name: plugin.offer.handlers[name] for name, plugin in served.items()}
        self.handlers: Mapping[str, Handler] = MappingProxyType(handlers)
        self._owners = {name: plugin.record for name, plugin in served.items()}
        self._listeners = {
            hook: tuple(p.offer.listeners[hook] for p in plugins if hook in p.offer.listeners)
            for hook in HOOK_NAMES
        }
        self._throttle = Throttle(_FAILURES_PER_MINUTE, time.monotonic)

    @classmethod
    def load(
        cls,
        *,
        disabled: Iterable[str] = (),
        prefer: Mapping[str, str] | None = None,
        strict: bool = False,
    ) -> PluginHost:
        """Load every installed plugin.

        Args:
            disabled: distributions or entry points that are not even imported.
            prefer: the distribution that serves a task type. No other one then serves it, not
                even while the preferred one is broken: its tasks wait.
            strict: let any plugin that failed stop the start.

        Raises:
            PluginError: two plugins claim one task type, or (``strict``) one has failed.
        """
        unwanted = set(disabled)
        loaded = [_load(candidate, unwanted) for candidate in find_candidates()]
        failed = [record for record, _ in loaded if record.state is PluginState.FAILED]
        if strict and failed:
            rows = "; ".join(f"{record.label} ({record.name}): {record.error}" for record in failed)
            raise PluginError(f"plugins failed to load: {rows}")
        return cls(loaded, prefer)

    @classmethod
    def of(cls, *plugins: object) -> PluginHost:
        """Make a host of modules, objects or handlers that are at hand, without installing them.

        Raises:
            PluginError: one of them cannot be used, or two claim one task type.
        """
        loaded = []
        for number, plugin in enumerate(plugins, start=1):
            name = str(getattr(plugin, "__name__", f"plugin-{number}"))
            offer = examine(plugin, name)
            record = PluginRecord(
                name=name,
                distribution="local",
                version="0",
                state=PluginState.LOADED,
                handlers=tuple(sorted(offer.handlers)),
            )
            loaded.append((record, offer))
        return cls(loaded)

    def get(self, task_type: str) -> Handler | None:
        """Return the handler of a task type, ``None`` when no plugin has one."""
        return self.handlers.get(task_type)

    def infos(self) -> dict[str, HandlerInfo]:
        """Return what the worker publishes about its handlers, by task type."""
        return {
            name: one.info(
                distribution=self._owners[name].distribution,
                version=self._owners[name].version,
                schemas=self.schemas[name].digest if name in self.schemas else "",
            )
            for name, one in self.handlers.items()
        }

    @cached_property
    def schemas(self) -> Mapping[str, HandlerSchemas]:
        """What the worker publishes of its handlers' schemas, by task type, as much as may be.

        Those that tell nothing are left out, and so are those that do not fit any more.
        """
        found: dict[str, HandlerSchemas] = {}
        left, size = [], 0
        for name, one in sorted(self.handlers.items()):
            schemas = one.schemas()
            size_of_it = len(msgspec.json.encode(schemas))
            if schemas == HandlerSchemas():
                continue
            if size + size_of_it > PUBLISHED_BYTES:
                left.append(name)
                continue
            size += size_of_it
            found[name] = schemas
        if left:
            _log.warning("too many schemas: these are not published", task_types=left)
        return MappingProxyType(found)

    def listens(self, hook_name: str) -> bool:
        """Tell whether any plugin implements a hook, so that a silent one costs nothing."""
        return bool(self._listeners[hook_name])

    def call(self, hook_name: str, **arguments: Any) -> None:
        """Call every listener of a hook; what one raises is logged and goes no further."""
        for listener in self._listeners[hook_name]:
            try:
                listener.function(*(arguments[name] for name in listener.arguments))
            except (Exception, SystemExit):  # noqa: BLE001 - a plugin's boundary, logged
                if self._throttle.allow(f"{hook_name} {listener.plugin}"):
                    _log.exception("a plugin's hook failed", hook=hook_name, plugin=listener.plugin)


def _load(candidate: Candidate, disabled: set[str]) -> tuple[PluginRecord, Offer]:
    """Load one plugin; whatever goes wrong with it ends in its record."""
    record = PluginRecord(
        name=candidate.name,
        distribution=candidate.distribution,
        version=candidate.version,
        state=PluginState.LOADED,
    )
    nothing = Offer(handlers={}, listeners={})
    names = {normalize(name) for name in disabled}
    if candidate.name in disabled or normalize(candidate.distribution) in names:
        return replace(record, state=PluginState.DISABLED), nothing
    if candidate.entry_point is None:
        _log.error("a plugin failed to load", plugin=record.label, error=candidate.error)
        return replace(record, state=PluginState.FAILED, error=candidate.error), nothing
    started = time.perf_counter()
    try:
        plugin = import_plugin(candidate.entry_point)
        offer = examine(plugin, f"{record.label} ({record.name})")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a plugin's boundary, logged
        # SystemExit too: a plugin that calls sys.exit() at import must not end the worker.
        _log.exception("a plugin failed to load", plugin=record.label, entry_point=record.name)
        text = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
        record, offer = replace(record, state=PluginState.FAILED, error=text), nothing
    load_ms = (time.perf_counter() - started) * 1000
    return replace(record, handlers=tuple(sorted(offer.handlers)), load_ms=load_ms), offer


def _decide(plugins: list[_Loaded], prefer: Mapping[str, str]) -> dict[str, _Loaded]:
    """Choose the plugin that serves each task type."""
    claims: dict[str, list[_Loaded]] = {}
    for plugin in plugins:
        for task_type in plugin.offer.handlers:
            claims.setdefault(task_type, []).append(plugin)
    chosen = {task_type: _preferred(task_type, claims, plugins, prefer) for task_type in claims}
    for task_type, claimants in chosen.items():
        if len({id(one.offer.handlers[task_type]) for one in claimants}) > 1:
            raise PluginError(_clash(task_type, [one.record for one in claimants]))
    return {task_type: claimants[0] for task_type, claimants in chosen.items() if claimants}


def _preferred(
    task_type: str,
    claims: Mapping[str, list[_Loaded]],
    plugins: list[_Loaded],
    prefer: Mapping[str, str],
) -> list[_Loaded]:
    """Return the claimants that the preference, if there is one, leaves over."""
    wanted = prefer.get(task_type)
    if wanted is None:
        return claims[task_type]
    if all(normalize(one.record.distribution) != normalize(wanted) for one in plugins):
        raise PluginError(f'plugins.prefer: no plugin "{wanted}" is installed for "{task_type}"')
    left = [c for c in claims[task_type] if normalize(c.record.distribution) == normalize(wanted)]
    if not left:
        _log.error("a preferred plugin is missing", task_type=task_type, distribution=wanted)
    return left


def _clash(task_type: str, records: list[PluginRecord]) -> str:
    labels = [record.label for record in records]
    if len({normalize(record.distribution) for record in records}) == 1:
        names = " and ".join(f'"{record.name}"' for record in records)
        return f'task type "{task_type}" is claimed by the entry points {names} of {labels[0]}'
    choices = " or ".join(f'"{task_type}={record.distribution}"' for record in records)
    return (
        f'task type "{task_type}" is claimed by both {" and ".join(labels)}; '
        f"set plugins.prefer to {choices}, or disable one"
    )
