"""What is stored after a run: read it, let its time pass, see that nothing dangles, remove it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Final

from taskqueue_core.broker import BATCH, Broker
from taskqueue_core.broker.clients import server_time_ms
from taskqueue_core.events import Event
from taskqueue_core.keys import Keys, id_to_hex, partition_of
from taskqueue_core.models import Task
from taskqueue_core.verification import ledger, lines
from taskqueue_core.verification.faults import Incident
from taskqueue_core.verification.fleet import LEASE_SECONDS, Fleet
from taskqueue_core.verification.oracle import Evidence

#: Keys of a namespace that stay when all its tasks are gone, beside the bells.
FIXED: Final = frozenset({"meta", "stats", "types", "ev"})


async def collect(
    broker: Broker,
    fleet: Fleet,
    *,
    accepted: Mapping[str, float],
    submitted_until: float,
    incidents: Sequence[Incident],
    slack_seconds: float = 0.0,
) -> Evidence:
    """Return all that is known of a run whose processes have ended, for the oracle."""
    lives = [life for one in fleet.members for life in one.lives]
    events = await read_events(broker)
    submitted = {one.data["task_id"] for one in events if one.type == "task.submitted"}
    return Evidence(
        accepted=accepted,
        submitted_until=submitted_until,
        entries=ledger.read(fleet.ledger),
        events=events,
        tasks=await read_tasks(broker, accepted.keys() | submitted),
        incidents=incidents,
        stats=await broker.inspection.stats(),
        lease_seconds=LEASE_SECONDS,
        broker_offset=await server_time_ms(broker.redis) / 1000 - time.monotonic(),
        slack_seconds=slack_seconds,
        lines=lines.read(lives),
        ready=lines.ready(lives),
    )


async def read_events(broker: Broker) -> list[Event]:
    """Return every event of the namespace, each partition's in order."""
    missing = {part: last for part, last in (await broker.event_positions()).items() if last}
    events: list[Event] = []
    if not missing:
        return events
    feed = broker.event_feed()
    try:
        async for some in feed.follow(dict.fromkeys(missing, 0)):
            events += some
            for event in some:
                if event.sequence >= missing.get(event.partition, event.sequence + 1):
                    del missing[event.partition]
            if not missing:
                break
    finally:
        await feed.close()
    return events


async def read_tasks(broker: Broker, task_ids: Iterable[str]) -> dict[str, Task]:
    """Return those of the tasks that exist."""
    by_partition: dict[int, list[str]] = defaultdict(list)
    for task_id in task_ids:
        by_partition[partition_of(task_id)].append(id_to_hex(task_id))
    found: dict[str, Task] = {}
    for partition, digits in by_partition.items():
        keys = broker.partitions[partition]
        for at in range(0, len(digits), BATCH):
            for task in await broker.inspection.read(keys, digits[at : at + BATCH]):
                found[task.id] = task
    return found


async def expire(broker: Broker) -> None:
    """Let everything that has ended be old, and retention do its work."""
    redis: Any = broker.redis
    for keys in broker.partitions:
        for index in (keys.done, keys.dead_letters, keys.queues):
            members = [member async for member, _ in redis.zscan_iter(index)]
            for at in range(0, len(members), BATCH):
                await redis.zadd(index, dict.fromkeys(members[at : at + BATCH], 1), xx=True)
        while await broker.retain(keys.partition) or await redis.exists(keys.queues):
            pass


async def leftovers(broker: Broker) -> list[str]:
    """Return the keys that should be gone when no task and no worker is left, bells apart."""
    found = []
    for keys in broker.partitions:
        async for key in _keys_of(broker, keys):
            name = key.removeprefix(keys.prefix)
            if name not in FIXED and not name.startswith("wake:"):
                found.append(key)
    return found


async def remove(broker: Broker) -> None:
    """Delete every key of the namespace."""
    for keys in broker.partitions:
        found = [key async for key in _keys_of(broker, keys)]
        for at in range(0, len(found), BATCH):
            await broker.redis.unlink(*found[at : at + BATCH])


async def _keys_of(broker: Broker, keys: Keys) -> AsyncIterator[str]:
    redis: Any = broker.redis
    async for key in redis.scan_iter(keys.prefix + "*", count=500):
        yield key.decode()
