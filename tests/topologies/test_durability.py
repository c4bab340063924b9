"""What a submission waits for before it is answered, and which servers are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from crowd import new_task, opened, settings_for
from structlog.testing import capture_logs
from topology import Alone, binary

from taskqueue_core.errors import BrokerUnavailableError, SchemaError
from taskqueue_core.keys import id_to_hex
from taskqueue_core.settings import Settings

pytestmark = pytest.mark.anyio

Start = Callable[..., Alone]


@pytest.fixture
def start(tmp_path: Path, request: pytest.FixtureRequest) -> Start:
    """Return a way to start a server with options of its own."""

    def start(kind: str, *options: str) -> Alone:
        place = Alone(binary(kind), tmp_path, *options)
        request.addfinalizer(place.close)
        return place

    return start


async def submit(settings: Settings) -> None:
    async with opened(settings) as broker:
        await broker.submit(new_task(broker))


async def test_an_unconfirmed_task_is_refused_though_it_may_be_there(
    start: Start, namespace: str
) -> None:
    """Without a replica the answer is to try again, also when the same id is there by then."""
    settings = settings_for(start("valkey"), namespace, durability="replica")
    async with opened(settings) as broker:
        task = new_task(broker)
        for _ in range(2):
            with pytest.raises(BrokerUnavailableError, match="not confirmed by 1 replicas"):
                await broker.submit(task)
        assert (await broker.inspection.get(task.id)).id == task.id
        keys, digits = broker.locate(task.id)
        assert await broker.redis.exists(keys.task(id_to_hex(digits)))


async def test_a_lost_script_is_loaded_and_confirmed(start: Start, namespace: str) -> None:
    """The way that waits for a confirmation loads forgotten scripts too."""
    settings = settings_for(
        start("valkey", "--appendfsync", "everysec"), namespace, durability="disk"
    )
    async with opened(settings) as broker:
        await broker.submit(new_task(broker))
        await broker.redis.script_flush()
        await broker.submit(new_task(broker))


async def test_a_confirmed_task_is_on_the_disk(start: Start, namespace: str) -> None:
    """What was answered at level disk is there after a kill that no buffer survives."""
    place = start("valkey", "--appendfsync", "everysec")
    settings = settings_for(place, namespace, durability="disk", partitions=1)
    async with opened(settings) as broker:
        task = new_task(broker)
        await broker.submit(task)
        written = (place.servers[0].directory / "appendonlydir").glob("*.incr.aof")
        assert any(id_to_hex(task.id).encode() in path.read_bytes() for path in written)


@pytest.mark.parametrize(
    ("kind", "options", "durability", "fix"),
    [
        ("valkey", ("--appendonly", "no"), "disk", "set appendonly yes"),
        ("redis", ("--appendfsync", "everysec"), "disk", "appendfsync always"),
        ("valkey", ("--maxmemory-policy", "allkeys-lru"), "process", "set it to noeviction"),
        ("valkey", ("--cluster-enabled", "yes"), "process", r"redis\+cluster://"),
    ],
)
async def test_unfit_servers_are_refused(
    start: Start, namespace: str, kind: str, options: tuple[str, ...], durability: str, fix: str
) -> None:
    """A server that would lose tasks is not used, and the message says what to change."""
    settings = settings_for(start(kind, *options), namespace, durability=durability)
    with pytest.raises(SchemaError, match=fix):
        await submit(settings)


async def test_redis_seven_syncs_always(start: Start, namespace: str) -> None:
    """Where there is no WAITAOF, appendfsync always does what level disk wants."""
    place = start("redis", "--appendfsync", "always")
    await submit(settings_for(place, namespace, durability="disk"))


async def test_no_log_is_said_once(start: Start, namespace: str) -> None:
    """A server without an append-only file is used, with one warning."""
    settings = settings_for(start("valkey", "--appendonly", "no"), namespace)
    with capture_logs() as lines:
        await submit(settings)
    assert [line["log_level"] for line in lines] == ["warning"]
    assert "append-only file" in lines[0]["event"]
