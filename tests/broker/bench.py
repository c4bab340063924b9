"""The test bench of the broker: a clock that stands still, tasks in any state, whole snapshots.

The scripts read the time from a key of the namespace, so that tests move it without waiting; the
age of a lease, which Redis itself counts, is set with ``XCLAIM``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import RedisCluster

from taskqueue_core.broker import Broker, WorkerSession
from taskqueue_core.events import STATE_LETTERS, Event, unpack
from taskqueue_core.keys import GROUP, id_from_hex, id_to_hex
from taskqueue_core.models import Delivery, Fetched, NewTask, Outcome, OutcomeKind, Submitted
from taskqueue_core.states import TaskState

#: In place of ``clock.lua``.
CLOCK: Final = "local now = tonumber(redis.call('GET', string.sub(KEYS[1], 1, -5) .. 'clock'))"

LEASE_MS: Final = 15_000
DAY_MS: Final = 86_400_000
#: Past the retention of ended tasks and of dead letters.
LONG_MS: Final = 31 * DAY_MS

Snapshot = dict[str, Any]


class Bench:
    """One namespace, its clock, and a worker ``w1`` that takes whatever is asked for."""

    def __init__(self, broker: Broker, now_ms: int) -> None:
        self.broker = broker
        # Its own types say text or bytes; without decoding it is always bytes.
        self.redis: Any = broker.redis
        self.keys = broker.partitions[0]
        self.now = now_ms
        self.w1 = broker.session("w1", "i1")
        self._requests = 0

    async def advance(self, milliseconds: int) -> None:
        """Move the clock."""
        self.now += milliseconds
        await self.redis.set(self.keys.prefix + "clock", self.now)

    def new(self, task_type: str = "echo", **fields: Any) -> NewTask:
        """Return a task to submit, with an id of its own."""
        return NewTask(id=self.broker.new_task_id(), type=task_type, **fields)

    async def submit(self, task_type: str = "echo", **fields: Any) -> str:
        """Submit a task and return its id."""
        answer: Submitted = await self.broker.submit(self.new(task_type, **fields))
        return answer.id

    async def join(self, session: WorkerSession | None = None, concurrency: int = 4) -> None:
        """Register a worker (``w1``) unless it is registered, and let it beat once."""
        session = session or self.w1
        await session.register(concurrency=concurrency, version="1", handlers={})
        await self.beat(session)

    async def beat(self, session: WorkerSession | None = None, **fields: Any) -> Any:
        """Send a heartbeat with the next request number."""
        self._requests += 1
        return await (session or self.w1).heartbeat(request=self._requests, active=0, **fields)

    async def streams(self) -> list[str]:
        """Return the streams of all queues, the highest priority first."""
        queues = await self.broker.inspection.queues(self.keys)
        return [self.keys.stream(queue, n) for n in (3, 2, 1, 0) for queue in queues]

    async def fetch(
        self,
        wanted: int = 1,
        *,
        session: WorkerSession | None = None,
        streams: Sequence[str] | None = None,
        outcomes: Sequence[Outcome] = (),
    ) -> Fetched:
        """Take tasks with the next request number, from all streams unless some are named."""
        self._requests += 1
        return await (session or self.w1).fetch(
            wanted,
            streams=await self.streams() if streams is None else streams,
            request=self._requests,
            outcomes=outcomes,
        )

    async def start(self, task_type: str = "echo", **fields: Any) -> Delivery:
        """Submit a task, let ``w1`` take it and return its delivery."""
        await self.join()
        task_id = await self.submit(task_type, **fields)
        deliveries = (await self.fetch(100)).deliveries
        return next(d for d in deliveries if d.digits == id_to_hex(task_id))

    async def age(self, delivery: Delivery, milliseconds: int, consumer: str = "w1") -> None:
        """Make the lease of a delivery that old."""
        stream = self.keys.stream(delivery.queue, delivery.priority)
        await self.redis.xclaim(
            stream, GROUP, consumer, 0, [delivery.entry_id], idle=milliseconds, justid=True
        )

    async def make(self, state: TaskState | None, **fields: Any) -> tuple[str, Delivery]:
        """Bring a new task into a state by the real scripts; its id and (last) delivery."""
        if state is None:
            task_id = self.broker.new_task_id()
            return task_id, stranger(task_id)
        if state is TaskState.SCHEDULED:
            fields["scheduled_at_ms"] = self.now + 60_000
        if state in (TaskState.PENDING, TaskState.SCHEDULED, TaskState.CANCELLED):
            task_id = await self.submit(**fields)
            if state is TaskState.CANCELLED:
                await self.broker.cancel(task_id)
            return task_id, stranger(task_id)
        delivery = await self.start(**fields)
        if state is TaskState.COMPLETED:
            await self.w1.complete([complete(delivery)])
        elif state is not TaskState.RUNNING:
            await self.w1.fail(
                [
                    fail(
                        delivery,
                        max_retries=1 if state is TaskState.RETRYING else 0,
                        is_dropped=state is TaskState.FAILED,
                        delay_ms=60_000,
                    )
                ]
            )
        return task_id_of(delivery), delivery

    async def task(self, task_id: str) -> dict[str, str]:
        """Return the hash of a task."""
        row = await self.redis.hgetall(self.keys.task(id_to_hex(task_id)))
        return {name.decode(): value.decode() for name, value in row.items()}

    async def state(self, task_id: str) -> TaskState | None:
        """Return a task's state, ``None`` without the task."""
        letter = (await self.task(task_id)).get("s")
        return None if letter is None else STATE_LETTERS[letter]

    async def events(self, after: int = 0) -> list[Event]:
        """Return the events behind a number."""
        found: list[Event] = []
        for entry, fields in await self.redis.xrange(self.keys.events):
            found += unpack(int(entry.partition(b"-")[0]), fields[b"e"])
        return [event for event in found if event.sequence > after]

    async def snapshot(self) -> Snapshot:
        """Return everything the namespace holds except lease ages: key -> value, events apart."""
        found: Snapshot = {}
        async for key in self.redis.scan_iter(self.keys.prefix + "*", count=1000):
            name = key.decode().removeprefix(self.keys.prefix)
            if name not in ("clock", "ev"):
                found[name] = await self._value(key)
        found["events"] = [(event.type, event.data) for event in await self.events()]
        return found

    async def clean(self) -> None:
        """Delete everything the namespace holds, but not the clock."""
        keys = [key async for key in self.redis.scan_iter(self.keys.prefix + "*", count=1000)]
        if keys:
            await self.redis.unlink(*keys)
        await self.advance(0)

    async def _value(self, key: bytes) -> Any:
        match await self.redis.type(key):
            case b"hash":
                row = await self.redis.hgetall(key)
                return {name.decode(): value.decode() for name, value in row.items()}
            case b"zset":
                rows = await self.redis.zrange(key, 0, -1, withscores=True)
                return {name.decode(): int(score) for name, score in rows}
            case b"set":
                return sorted(item.decode() for item in await self.redis.smembers(key))
            case b"list":
                return [item.decode() for item in await self.redis.lrange(key, 0, -1)]
            case b"string":
                return await self.redis.get(key)
            case _:
                return await self._stream(key)

    async def _stream(self, key: bytes) -> list[tuple[str, str, str]]:
        """Return (id of the task, entry id, consumer or '') of each entry."""
        owners = {
            row["message_id"]: row["consumer"].decode()
            for row in await self.redis.xpending_range(key, GROUP, "-", "+", 1000)
        }
        return [
            (fields.get(b"i", b"").decode(), entry.decode(), owners.get(entry, ""))
            for entry, fields in await self.redis.xrange(key)
        ]


def server_of(redis: Any, key: str) -> dict[str, Any]:
    """Return what sends a command to the server that has a key, where there are several."""
    if not isinstance(redis, RedisCluster):
        return {}
    return {"target_nodes": redis.get_node_from_key(key)}


def task_id_of(delivery: Delivery) -> str:
    """Return the canonical id of a delivered task."""
    return id_from_hex(delivery.digits)


def stranger(task_id: str) -> Delivery:
    """Return a delivery of the task that never took place."""
    return Delivery(
        digits=id_to_hex(task_id),
        entry_id="1-1",
        queue="default",
        priority=1,
        type="echo",
        number=1,
        attempts=1,
        lost_leases=0,
        timeout_seconds=None,
        max_retries=None,
        body=b"[{}]",
        fetched_at_ms=0,
        enqueued_at_ms=0,
    )


def complete(delivery: Delivery, value: bytes = b"true") -> Outcome:
    """Return a successful outcome of 7 ms."""
    return Outcome(delivery=delivery, kind=OutcomeKind.COMPLETE, value=value, duration_ms=7)


def fail(delivery: Delivery, value: bytes = b"broken", **fields: Any) -> Outcome:
    """Return a failed outcome of 7 ms."""
    return Outcome(delivery=delivery, kind=OutcomeKind.FAIL, value=value, duration_ms=7, **fields)


def release(delivery: Delivery) -> Outcome:
    """Return a delivery as given back."""
    return Outcome(delivery=delivery, kind=OutcomeKind.RELEASE)


def hold(delivery: Delivery, *, longest_ms: int = DAY_MS, cap_ms: int = 5_000) -> Outcome:
    """Return a delivery as put aside for want of a handler."""
    return Outcome(
        delivery=delivery, kind=OutcomeKind.HOLD, delay_ms=cap_ms, duration_ms=longest_ms
    )


def changes(before: Snapshot, after: Snapshot) -> Snapshot:
    """Return what differs: dictionaries by field, lists by what was added, other values whole.

    A field, member or key that is gone has the value ``None``.
    """
    found: Snapshot = {}
    for name in before.keys() | after.keys():
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            fields = old.keys() | new.keys()
            found[name] = {f: new.get(f) for f in fields if old.get(f) != new.get(f)}
        elif name == "events":
            found[name] = (new or [])[len(old or []) :]
        else:
            found[name] = new
    return found
