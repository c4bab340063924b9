"""The Lua scripts: assembled from their parts, run by hash, loaded again when Redis forgot them.

A script is: a ``#!lua`` line with its flags (so that a full Redis refuses it before its first
line, or lets a draining one through), the settings as Lua locals, the clock, the prelude, the
parts it shares with others, and its own file. ``lua/README.md`` describes the data it works on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from redis import exceptions as redis_errors
from redis.asyncio import Redis

from taskqueue_core.broker.clients import translate
from taskqueue_core.errors import BrokerError
from taskqueue_core.settings import Settings

_MS_PER_DAY: Final = 86_400_000
_FLAGS: Final = {
    "allow-oom": " flags=allow-oom",
    "no-writes": " flags=no-writes",
    "refused when memory is full": "",
}

#: Script -> the parts it is made of, its own file last.
PARTS: Final[dict[str, tuple[str, ...]]] = {
    "submit": ("submit",),
    "fetch": ("endings", "outcomes", "due", "take", "fetch"),
    "complete": ("endings", "outcomes", "complete", "report"),
    "fail": ("endings", "outcomes", "fail", "report"),
    "release": ("endings", "outcomes", "release", "report"),
    "hold": ("endings", "outcomes", "hold", "report"),
    "promote": ("due", "promote"),
    "heartbeat": ("endings", "heartbeat"),
    "recover": ("endings", "take", "recover"),
    "cancel": ("cancelling", "cancel"),
    "purge": ("cancelling", "purge"),
    "retry": ("restart", "retry"),
    "redrive": ("restart", "redrive"),
    "clear": ("clear",),
    "retain": ("retain",),
    "register": ("register",),
    "pause": ("pause",),
    "stop": ("stop",),
    "deregister": ("deregister",),
    "read": ("read",),
    "depths": ("depths",),
}

Argument = str | bytes | int


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings that are part of the scripts' text, in the units of the data."""

    events_max: int
    lease_ms: int
    retention_ms: int
    dead_retention_ms: int
    max_backlog: int
    max_queues: int
    max_lost: int
    max_types: int = 200
    history_max: int = 20

    @classmethod
    def from_settings(cls, settings: Settings) -> Limits:
        """Return the limits of one partition: the backlog limit is shared out evenly."""
        queue = settings.queue
        return cls(
            events_max=settings.events.max_length,
            lease_ms=round(settings.worker.lease_seconds * 1000),
            retention_ms=round(queue.task_retention_days * _MS_PER_DAY),
            dead_retention_ms=round(queue.dead_letter_retention_days * _MS_PER_DAY),
            max_backlog=queue.max_queue_size // queue.partitions,
            max_queues=queue.max_queues,
            max_lost=queue.max_lost_leases,
        )

    def as_lua(self) -> str:
        """Return the limits as Lua locals, all on one line."""
        names = [name for name in self.__slots__ if isinstance(name, str)]
        values = ", ".join(str(getattr(self, name)) for name in names)
        return f"local {', '.join(name.upper() for name in names)} = {values}"


def source(part: str) -> str:
    """Return the text of one Lua file."""
    return (resources.files(__package__) / "lua" / f"{part}.lua").read_text("utf-8")


def assemble(name: str, limits: Limits, *, clock: str | None = None) -> str:
    """Return the whole text of script ``name``; ``clock`` replaces the broker's clock in tests."""
    parts = PARTS[name]
    flags = re.search(r"^-- Flags: (.*)$", "\n".join(map(source, parts)), re.MULTILINE)
    if flags is None:
        raise BrokerError(f"script {name} has no line '-- Flags:'")
    head = f"#!lua{_FLAGS[flags[1]]}"
    return "\n".join(
        [head, limits.as_lua(), clock or source("clock"), source("prelude"), *map(source, parts)]
    )


class Scripts:
    """All scripts of one configuration, ready to be called."""

    def __init__(self, redis: Redis, limits: Limits, *, clock: str | None = None) -> None:
        self._redis: Any = redis  # its execute_command is untyped
        self._texts = {name: assemble(name, limits, clock=clock).encode() for name in PARTS}
        self._hashes = {
            name: hashlib.sha1(text, usedforsecurity=False).hexdigest()
            for name, text in self._texts.items()
        }

    async def call(self, name: str, keys: Sequence[str], arguments: Sequence[Argument] = ()) -> Any:
        """Run a script; the caller may repeat it, as every script is safe to repeat.

        Raises:
            BrokerUnavailableError: no connection, or no answer in time.
            BrokerFullError: Redis is out of memory or disk.
            BrokerError: any other error answer.
        """
        command = ("EVALSHA", self._hashes[name], len(keys), *keys, *arguments)
        try:
            try:
                return await self._redis.execute_command(*command)
            except redis_errors.NoScriptError:
                # A restart or SCRIPT FLUSH: EVAL loads it and runs it in one step.
                return await self._redis.execute_command("EVAL", self._texts[name], *command[2:])
        except redis_errors.RedisError as error:
            raise translate(error) from error
