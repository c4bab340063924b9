"""Damage to a namespace, as a hand with ``redis-cli`` does it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bench import Bench

from taskqueue_core.keys import GROUP

Damage = Callable[[Bench, str], Awaitable[object]]


async def drop_entry(bench: Bench, digits: str) -> None:
    entry = await bench.redis.hget(bench.keys.task(digits), "m")
    await bench.redis.xdel(bench.keys.stream("default", 1), entry)


async def drop_stream(bench: Bench, digits: str) -> None:
    await bench.redis.delete(bench.keys.stream("default", 1))


async def drop_group(bench: Bench, digits: str) -> None:
    await bench.redis.xgroup_destroy(bench.keys.stream("default", 1), GROUP)


async def second_entry(bench: Bench, digits: str) -> None:
    await bench.redis.xadd(bench.keys.stream("default", 1), {"i": digits})


async def foreign_entry(bench: Bench, digits: str) -> None:
    await bench.redis.xadd(bench.keys.stream("default", 1), {"j": "k"})


async def unknown_entry(bench: Bench, digits: str) -> None:
    await bench.redis.xadd(bench.keys.stream("default", 1), {"i": "0" * 32})


async def read_behind_the_back(bench: Bench, digits: str) -> None:
    await bench.redis.xreadgroup(GROUP, "thief", {bench.keys.stream("default", 1): ">"})


async def drop_schedule(bench: Bench, digits: str) -> None:
    await bench.redis.zrem(bench.keys.schedule, digits)


async def also_scheduled(bench: Bench, digits: str) -> None:
    await bench.redis.zadd(bench.keys.schedule, {digits: 1})


async def drop_done(bench: Bench, digits: str) -> None:
    await bench.redis.delete(bench.keys.done)


async def drop_dead(bench: Bench, digits: str) -> None:
    await bench.redis.delete(bench.keys.dead_letters)


async def drop_hash(bench: Bench, digits: str) -> None:
    await bench.redis.delete(bench.keys.task(digits))


async def drop_queues(bench: Bench, digits: str) -> None:
    await bench.redis.delete(bench.keys.queues)


async def other_type(bench: Bench, digits: str) -> None:
    await drop_stream(bench, digits)
    await bench.redis.set(bench.keys.stream("default", 1), "nonsense")


def hash_field(name: str, value: str | None) -> Damage:
    async def damage(bench: Bench, digits: str) -> None:
        key = bench.keys.task(digits)
        await (bench.redis.hdel(key, name) if value is None else bench.redis.hset(key, name, value))

    return damage


async def acknowledge(bench: Bench, digits: str) -> None:
    entry = await bench.redis.hget(bench.keys.task(digits), "m")
    await bench.redis.xack(bench.keys.stream("default", 1), GROUP, entry)


async def acknowledge_unowned(bench: Bench, digits: str) -> None:
    await acknowledge(bench, digits)
    await hash_field("w", None)(bench, digits)


async def group_at_the_end(bench: Bench, digits: str) -> None:
    await drop_group(bench, digits)
    await bench.redis.xgroup_create(bench.keys.stream("default", 1), GROUP, "$")


async def also_done(bench: Bench, digits: str) -> None:
    await bench.redis.zadd(bench.keys.done, {digits: 1})


async def also_dead(bench: Bench, digits: str) -> None:
    await bench.redis.zadd(bench.keys.dead_letters, {digits: 1})


def drop_key(name: str) -> Damage:
    async def damage(bench: Bench, digits: str) -> None:
        await bench.redis.delete(bench.keys.prefix + name.format(digits))

    return damage


def stray_part(kind: str) -> Damage:
    async def damage(bench: Bench, digits: str) -> None:
        await bench.redis.set(f"{bench.keys.prefix}{kind}:{'0' * 32}", "x")

    return damage


async def entry_of_another(bench: Bench, digits: str) -> None:
    await bench.submit()
    [_, (entry, _)] = await bench.redis.xrange(bench.keys.stream("default", 1))
    await bench.redis.hset(bench.keys.task(digits), "m", entry)


async def same_entry_elsewhere(bench: Bench, digits: str) -> None:
    entry = await bench.redis.hget(bench.keys.task(digits), "m")
    await bench.redis.xadd(bench.keys.stream("default", 3), {"i": digits}, id=entry)


async def group_at_the_start(bench: Bench, digits: str) -> None:
    await bench.redis.xgroup_setid(bench.keys.stream("default", 1), GROUP, "0")


async def shortened_entry(bench: Bench, digits: str) -> None:
    key = bench.keys.task(digits)
    entry = (await bench.redis.hget(key, "m")).partition(b"-")[0]
    await bench.redis.hset(key, "m", entry)


def both(one: Damage, other: Damage) -> Damage:
    async def damage(bench: Bench, digits: str) -> None:
        await one(bench, digits)
        await other(bench, digits)

    return damage


async def miscount(bench: Bench, digits: str) -> None:
    await bench.redis.hincrby(bench.keys.stats, "backlog", 2)


async def repair(bench: Bench) -> list[str]:
    """Repair the namespace; what was repaired."""
    return [sentence async for sentence in bench.broker.repair()]


async def audit(bench: Bench) -> list[str]:
    """Return what is out of place."""
    return await bench.broker.inspection.audit()
