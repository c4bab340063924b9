"""The Lua scripts: assembled from their parts, run by hash, loaded again when Redis forgot them.

A script is: a ``#!lua`` line with its flags (so that a full Redis refuses it before its first
line, or lets a draining one through), the settings as Lua locals, the clock, the prelude, the
events, the parts it shares with others, and its own file. ``lua/README.md`` describes the data it
works on.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final, TypeVar

from redis import exceptions as redis_errors
from redis.asyncio import RedisCluster

from taskqueue_core.broker.clients import CLIENT_ERRORS, Client, attempted
from taskqueue_core.errors import BrokerError, BrokerUnavailableError
from taskqueue_core.settings import Settings

_MS_PER_DAY: Final = 86_400_000
_FLAGS: Final = {
    "allow-oom": " flags=allow-oom",
    "no-writes": " flags=no-writes",
    "refused when memory is full": "",
}

#: Script -> the parts it is made of, its own file last.
PARTS: Final[dict[str, tuple[str, ...]]] = {
    "submit": ("accept", "submit"),
    "fetch": ("endings", "held", "outcomes", "due", "take", "fetch"),
    "complete": ("endings", "held", "outcomes", "complete", "report"),
    "fail": ("endings", "held", "outcomes", "fail", "report"),
    "release": ("endings", "held", "outcomes", "release", "report"),
    "hold": ("endings", "held", "outcomes", "hold", "report"),
    "promote": ("held", "due", "promote"),
    "heartbeat": ("endings", "heartbeat"),
    "progress": ("progress",),
    "recover": ("endings", "take", "recover"),
    "cancel": ("held", "cancelling", "cancel"),
    "purge": ("held", "cancelling", "purge"),
    "retry": ("restart", "retry"),
    "redrive": ("walking", "restart", "redrive"),
    "clear": ("clear",),
    "retain": ("retain",),
    "register": ("register",),
    "pause": ("pause",),
    "pause_priority": ("held", "pause_priority"),
    "stop": ("stop",),
    "deregister": ("deregister",),
    "admit": ("admit",),
    "read": ("read",),
    "search": ("walking", "search"),
    "tally": ("walking", "tally"),
    "causes": ("causes",),
    "running": ("running",),
    "depths": ("depths",),
    "survey": ("held", "survey"),
    "history": ("history",),
    "repair": ("endings", "held", "placing", "indexed", "repair"),
}

Argument = str | bytes | int

#: Called after a call of Redis: its name, the seconds it took, and its error if it failed.
Observe = Callable[[str, float, BrokerError | None], None]

T = TypeVar("T")


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
    max_rate: int
    idempotency_ms: int
    max_types: int = 200
    history_max: int = 20

    @classmethod
    def from_settings(cls, settings: Settings) -> Limits:
        """Return the limits of one partition: the backlog limit is shared out evenly."""
        queue = settings.queue
        # A record that outlived its tasks would make them again.
        days = [queue.idempotency_hours / 24, queue.task_retention_days]
        days += [queue.dead_letter_retention_days] * (queue.dead_letter_retention_days > 0)
        return cls(
            events_max=settings.events.max_length,
            lease_ms=round(settings.worker.lease_seconds * 1000),
            retention_ms=round(queue.task_retention_days * _MS_PER_DAY),
            dead_retention_ms=round(queue.dead_letter_retention_days * _MS_PER_DAY),
            max_backlog=max(queue.max_queue_size // queue.partitions, 1),
            max_queues=queue.max_queues,
            max_lost=queue.max_lost_leases,
            max_rate=queue.rate_limit_rps,
            idempotency_ms=max(round(min(days) * _MS_PER_DAY), 1),
        )

    def as_lua(self) -> str:
        """Return the limits as Lua locals, all on one line."""
        names = [name for name in self.__slots__ if isinstance(name, str)]
        values = ", ".join(str(getattr(self, name)) for name in names)
        return f"local {', '.join(name.upper() for name in names)} = {values}"


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What a write must reach before it counts, and how Redis is asked to wait for that."""

    wait: tuple[Argument, ...]
    copies: int
    place: str

    @classmethod
    def from_settings(cls, settings: Settings) -> Confirmation | None:
        """Return what ``queue.durability`` wants; None where the answer of Redis is enough."""
        queue = settings.queue
        # Redis gives up a little before the client would, which then knows why.
        patience_ms = max(round(settings.redis.read_timeout_seconds * 900), 1)
        match queue.durability:
            case "disk":
                return cls(("WAITAOF", 1, 0, patience_ms), 1, "the disk")
            case "replica":
                wait = ("WAIT", queue.replicas, patience_ms)
                return cls(wait, queue.replicas, f"{queue.replicas} replicas")
        return None

    def check(self, reply: object) -> None:
        """Raise BrokerUnavailableError unless the reply to ``wait`` says that it is there."""
        if isinstance(reply, redis_errors.ResponseError):
            reason = f" ({reply})"
        else:
            # WAITAOF answers with the number of disks, then that of replicas' disks.
            reached = reply[0] if isinstance(reply, list) else reply
            if isinstance(reached, int) and reached >= self.copies:
                return
            reason = ""
        raise BrokerUnavailableError(
            f"not confirmed by {self.place} in time{reason}: retry with the same key or id"
        )


def can_wait_for_disk(version: tuple[int, int]) -> bool:
    """Tell whether a Redis of this version has WAITAOF."""
    return version >= (7, 2)


@cache
def source(part: str) -> str:
    """Return the text of one Lua file."""
    return (resources.files(__package__) / "lua" / f"{part}.lua").read_text("utf-8")


def assemble(
    name: str, limits: Limits, *, clock: str | None = None, is_guarded: bool = False
) -> str:
    """Return the whole text of script ``name``; ``clock`` replaces the broker's clock in tests.

    A guarded script is called with one key more than it knows, see ``Scripts``.
    """
    parts = PARTS[name]
    flags = re.search(r"^-- Flags: (.*)$", "\n".join(map(source, parts)), re.MULTILINE)
    if flags is None:
        raise BrokerError(f"script {name} has no line '-- Flags:'")
    head = f"#!lua{_FLAGS[flags[1]]}"
    settings = ("KEYS[#KEYS] = nil " if is_guarded else "") + limits.as_lua()
    shared = [clock or source("clock"), source("prelude"), source("events")]
    return "\n".join([head, settings, *shared, *map(source, parts)])


class Scripts:
    """All scripts of one configuration, ready to be called.

    In a cluster every call names a key that never exists. While a slot is moved key by key, part
    of a partition is on either node, and a script would find half of it or stop in the middle.
    With that key among its keys, both nodes refuse the script as a whole (TRYAGAIN), until the
    slot has moved.
    """

    def __init__(
        self, redis: Client, limits: Limits, *, clock: str | None = None, retries: int = 0
    ) -> None:
        self.retries = retries
        #: What a submission waits for, beyond the script's answer.
        self.confirmation: Confirmation | None = None
        #: Who measures the calls.
        self.observe: Observe | None = None
        self._redis: Any = redis  # its execute_command is untyped
        self._is_guarded = isinstance(redis, RedisCluster)
        self._texts = {
            name: assemble(name, limits, clock=clock, is_guarded=self._is_guarded).encode()
            for name in PARTS
        }
        self._hashes = {
            name: hashlib.sha1(text, usedforsecurity=False).hexdigest()
            for name, text in self._texts.items()
        }

    async def call(self, name: str, keys: Sequence[str], arguments: Sequence[Argument] = ()) -> Any:
        """Run a script; the caller may repeat it, as every script is safe to repeat.

        Raises:
            BrokerUnavailableError: no connection, no answer in time, or what ``submit`` wrote is
                not confirmed in time.
            BrokerFullError: Redis is out of memory or disk.
            BrokerError: any other error answer.
        """
        guard = [keys[0].removesuffix("meta") + "none"] if self._is_guarded else []
        rest = (len(keys) + len(guard), *keys, *guard, *arguments)
        run = self._redis.execute_command
        if self.confirmation and name == "submit":
            run = self._confirmed(keys[0], self.confirmation)

        async def once() -> Any:
            try:
                return await run("EVALSHA", self._hashes[name], *rest)
            except redis_errors.NoScriptError:
                # A restart or SCRIPT FLUSH: EVAL loads it and runs it in one step.
                return await run("EVAL", self._texts[name], *rest)

        return await self.attempt(name, once)

    async def attempt(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        """Return the answer of a call that is safe to repeat, see ``attempted``; measure it."""
        if self.observe is None:
            return await attempted(self._redis, self.retries, call)
        started = time.perf_counter()
        failure: BrokerError | None = None
        try:
            return await attempted(self._redis, self.retries, call)
        except BrokerError as error:
            failure = error
            raise
        finally:
            self.observe(operation, time.perf_counter() - started, failure)

    def _confirmed(self, meta: str, confirmation: Confirmation) -> Callable[..., Awaitable[Any]]:
        """Return a way to run a command that answers once what it wrote is confirmed."""

        async def run(*command: Argument) -> Any:
            # WAIT is about the connection's own writes. The first command is one in any case: a
            # repeat of a submission writes nothing, and would be confirmed without having waited.
            commands = (("HSET", meta, "asked", 1), command, confirmation.wait)
            replies = await self._in_one_connection(meta, commands)
            for reply in replies[:2]:
                if isinstance(reply, Exception):
                    raise reply
            if isinstance(replies[2], redis_errors.ConnectionError | redis_errors.TimeoutError):
                raise replies[2]
            confirmation.check(replies[2])
            return replies[1]

        return run

    async def _in_one_connection(
        self, meta: str, commands: Sequence[Sequence[Argument]]
    ) -> list[Any]:
        """Run commands one after the other over one connection to the node of ``meta``."""
        target: dict[str, Any] = {}
        if isinstance(self._redis, RedisCluster):
            await self._redis.initialize()
            target["target_nodes"] = self._redis.get_node_from_key(meta)
        pipe = self._redis.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command, **target)
        if not target:
            return list(await pipe.execute(raise_on_error=False))
        try:
            replies = await pipe.execute(raise_on_error=False, allow_redirections=False)
        except CLIENT_ERRORS as error:
            replies = [error] * len(commands)
        if any(isinstance(reply, Exception) for reply in replies):
            # A plain call finds the slot's node again, for the next attempt.
            with contextlib.suppress(*CLIENT_ERRORS):
                await self._redis.execute_command("EXISTS", meta)
        return list(replies)
