"""Repair: put back what ``audit`` finds out of place, also while the system is running.

Looks at a whole namespace in steps of at most 100. Each step is one call of ``repair.lua``, which
reads everything itself and goes by what is true at that moment: a task that is in its place is
never touched, however it moves between two steps. It may be stopped anywhere and started again.

What is lost stays lost: a task without its hash, a body, a result. A task whose state or type is
not known is left as it is, and a key of another type is never deleted; ``audit`` names them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from taskqueue_core.broker.audit import PARTS, scan
from taskqueue_core.broker.clients import Client, batch, translated
from taskqueue_core.broker.scripts import Argument, Scripts
from taskqueue_core.keys import Keys

_STEP: Final = 100

#: Code of a repair in the answer of ``repair.lua`` -> what was done.
_SENTENCES: Final = {
    1: "queue {} is listed again",
    2: "task {} waits in its queue again",
    3: "task {} was running without a lease: it waits in its queue again",
    4: "task {} is leased to its worker again",
    5: "task {} is in the index of its state again",
    6: "task {} is no longer in the index of another state",
    7: "what was left of {}, which is no task, is deleted",
    8: "{} was no task's place: the entry is deleted",
    9: "{} was pending but deleted: it is not pending any more",
    10: "the backlog was wrong by {}",
    11: "events are counted from {} again",
    12: "task {} is among the held tasks of its type again",
    13: "{} is no longer among the held tasks",
    14: "{} is no longer a type of held tasks",
    15: "events say whose their tasks are again",
    16: "task {} was running without a lease and asked to stop: it is cancelled",
    17: "task {} does not run: it is no longer asked to stop",
}


async def repair(redis: Client, scripts: Scripts, partitions: Sequence[Keys]) -> AsyncIterator[str]:
    """Repair what can be repaired; yield a sentence for each repair once it is done.

    Raises BrokerError, BrokerUnavailableError: what was yielded is done, the rest is not.
    """
    for keys in partitions:
        with translated():
            async for sentences in _Repair(redis, scripts, keys).steps():
                for sentence in sentences:
                    yield sentence


class _Repair:
    """The repair of one partition."""

    def __init__(self, redis: Client, scripts: Scripts, keys: Keys) -> None:
        self._redis: Any = redis  # typed as bytes | str by redis-py; ours are bytes
        self._scripts = scripts
        self._keys = keys

    async def steps(self) -> AsyncIterator[list[str]]:
        """Make one call after the other; yield what each has repaired."""
        # Tasks come first: they bring back their streams, queues and types, which are looked
        # through next; what is counted last is then all there.
        async for ids in self._suspects():
            yield await self._mend(ids=ids)
        for name in await self._redis.zrange(self._keys.queues, 0, -1):
            for priority in range(4):
                stream = self._keys.stream(name.decode(), priority)
                async for sentences in self._look_through(stream):
                    yield sentences
        for name in await self._redis.smembers(self._keys.held_types):
            task_type = name.decode()
            async for ids in _in_steps(self._members(self._keys.held(task_type))):
                yield await self._mend(held_type=task_type, ids=ids)
            yield await self._mend(held_type=task_type)
        yield await self._mend(counts_backlog=True)

    async def _suspects(self) -> AsyncIterator[list[str]]:
        """Yield the ids of all tasks, then those that something else has and are no tasks."""
        keys = self._keys
        async for ids in _in_steps(scan(self._redis, keys, "t:")):
            yield ids
        indexes = [self._members(key) for key in (keys.schedule, keys.done, keys.dead_letters)]
        for others in (*indexes, *(scan(self._redis, keys, kind) for kind in PARTS)):
            async for ids in _in_steps(others):
                found = await batch(self._redis, [("EXISTS", keys.task(name)) for name in ids])
                strangers = [name for name, is_task in zip(ids, found, strict=True) if not is_task]
                if strangers:
                    yield strangers

    async def _members(self, key: str) -> AsyncIterator[str]:
        async for member, _ in self._redis.zscan_iter(key, count=_STEP):
            yield member.decode()

    async def _look_through(self, stream: str) -> AsyncIterator[list[str]]:
        entry, pending_entry, last = b"-", b"-", b""
        while entry or pending_entry:
            entry, pending_entry, last, *repairs = await self._call(
                [stream], entry, pending_entry, last, 0, ""
            )
            yield _sentences(repairs)

    async def _mend(
        self, *, counts_backlog: bool = False, held_type: str = "", ids: Sequence[str] = ()
    ) -> list[str]:
        flag = int(counts_backlog)
        _, _, _, *repairs = await self._call([], "", "", "", flag, held_type, *ids)
        return _sentences(repairs)

    async def _call(self, streams: Sequence[str], *arguments: Argument) -> list[Any]:
        keys = [self._keys.meta, *streams]
        reply: list[Any] = await self._scripts.call("repair", keys, arguments)
        return reply


def _sentences(repairs: Sequence[Any]) -> list[str]:
    pairs = zip(repairs[::2], repairs[1::2], strict=True)
    return [
        _SENTENCES[code].format(what.decode() if isinstance(what, bytes) else what)
        for code, what in pairs
    ]


async def _in_steps(names: AsyncIterator[str]) -> AsyncIterator[list[str]]:
    step: list[str] = []
    async for name in names:
        step.append(name)
        if len(step) == _STEP:
            yield step
            step = []
    if step:
        yield step
