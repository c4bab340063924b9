"""What the fleet says about its handlers, and how often it is asked."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from taskqueue_core.errors import InvalidTaskError
from taskqueue_core.models import HandlerInfo, WorkerState
from taskqueue_core.plugin.schemas import HandlerSchemas
from taskqueue_core.settings import QueueSettings, Settings
from taskqueue_server.catalog import MAX_AGE_SECONDS, HandlerCatalog, KnownType

pytestmark = pytest.mark.anyio


def worker(name: str, started_at_ms: int, **handlers: HandlerInfo) -> WorkerState:
    """Return a live worker with handlers."""
    return WorkerState(
        id=name,
        instance="i",
        state="idle",
        started_at_ms=started_at_ms,
        last_heartbeat_ms=0,
        active_tasks=0,
        concurrency=1,
        version="1",
        handlers=msgspec.json.encode(handlers),
    )


class Fleet:
    """Live workers, a clock, and the number of times somebody asked for them."""

    def __init__(self, *workers: WorkerState) -> None:
        self.workers = list(workers)
        self.now = 1000.0
        self.asked = 0
        self.schemas: dict[str, dict[str, HandlerSchemas]] = {}
        self.schemas_read: list[str] = []
        queue = QueueSettings(retry_max_attempts=4, default_timeout_seconds=1.5)
        self.catalog = HandlerCatalog(
            Settings(queue=queue), self.read, self.read_schemas, lambda: self.now
        )

    async def read(self) -> list[WorkerState]:
        """Return the workers."""
        self.asked += 1
        await asyncio.sleep(0)
        return self.workers

    async def read_schemas(self, worker_id: str) -> bytes:
        """Return what a worker has published apart."""
        self.schemas_read.append(worker_id)
        return msgspec.json.encode(self.schemas.get(worker_id, {}))


async def test_settings_hold_for_unknown_types() -> None:
    """A type that nobody handles has the settings' retries and timeout, in whole seconds."""
    catalog = Fleet().catalog
    assert await catalog.queue_of("echo") == "default"
    assert await catalog.max_retries_of("echo") == 4
    assert await catalog.timeout_of("echo") == 2


async def test_handlers_hold_for_known_ones() -> None:
    """What a handler does not say is left to the settings; 0 retries are said."""
    info = HandlerInfo(queue="mail", max_retries=0)
    catalog = Fleet(worker("a", 1, echo=info)).catalog
    assert await catalog.queue_of("echo") == "mail"
    assert await catalog.max_retries_of("echo") == 0
    assert await catalog.timeout_of("echo") == 2


async def test_latest_worker_is_believed() -> None:
    """During a roll-out the new version of a handler counts."""
    old, new = HandlerInfo(timeout_seconds=1), HandlerInfo(timeout_seconds=9)
    fleet = Fleet(worker("z", 2, echo=new), worker("a", 1, echo=old, fail=old))
    assert await fleet.catalog.timeout_of("echo") == 9
    assert await fleet.catalog.timeout_of("fail") == 1


async def test_fleet_is_asked_now_and_then() -> None:
    """Many requests share one question; its answer is used until it is too old."""
    fleet = Fleet(worker("a", 1, echo=HandlerInfo(queue="one")))
    answers = await asyncio.gather(*(fleet.catalog.queue_of("echo") for _ in range(50)))
    assert (set(answers), fleet.asked) == ({"one"}, 1)
    fleet.workers = [worker("a", 1, echo=HandlerInfo(queue="two"))]
    fleet.now += MAX_AGE_SECONDS - 0.01
    assert (await fleet.catalog.queue_of("echo"), fleet.asked) == ("one", 1)
    fleet.now += 0.01
    assert (await fleet.catalog.queue_of("echo"), fleet.asked) == ("two", 2)


NUMBERS = HandlerSchemas(payload={"properties": {"n": {"type": "integer"}}})
TEXTS = HandlerSchemas(payload={"properties": {"n": {"type": "string"}}}, result={"type": "null"})


async def test_schemas_are_read_once_for_each_digest() -> None:
    """Those of the worker that is believed; again only when there are others."""
    fleet = Fleet(
        worker("a", 1, echo=HandlerInfo(schemas=TEXTS.digest), free=HandlerInfo()),
        worker("b", 2, echo=HandlerInfo(schemas=NUMBERS.digest)),
    )
    fleet.schemas = {"a": {"echo": TEXTS}, "b": {"echo": NUMBERS}}
    await fleet.catalog.check_payload("echo", {"n": 1}, 7)
    with pytest.raises(InvalidTaskError, match='payload/n: "1" is not of type "integer"'):
        await fleet.catalog.check_payload("echo", {"n": "1"}, 9)
    await fleet.catalog.check_payload("free", {"n": "1"}, 9)
    await fleet.catalog.check_payload("unknown", {"n": "1"}, 9)
    fleet.now += MAX_AGE_SECONDS
    await fleet.catalog.check_payload("echo", {"n": 1}, 7)
    assert fleet.schemas_read == ["b"]
    fleet.workers.pop()
    fleet.now += MAX_AGE_SECONDS
    await fleet.catalog.check_payload("echo", {"n": "1"}, 9)
    assert fleet.schemas_read == ["b", "a"]
    assert len(fleet.catalog._published) == 1


async def test_schemas_that_are_not_what_they_are_called() -> None:
    """Schemas of another digest, or none, are not taken; the type is as one without."""
    info = HandlerInfo(schemas=NUMBERS.digest)
    fleet = Fleet(worker("a", 1, echo=info, other=info))
    fleet.schemas = {"a": {"echo": TEXTS}}
    await fleet.catalog.check_payload("echo", {"n": []}, 8)
    await fleet.catalog.check_payload("other", {"n": []}, 8)
    assert [known.schemas for known in await fleet.catalog.known_types()] == [HandlerSchemas()] * 2


async def test_known_types() -> None:
    """By name, with the limits that hold, and the number of workers that handle them."""
    info = HandlerInfo(queue="mail", max_retries=0, timeout_seconds=9, schemas=NUMBERS.digest)
    fleet = Fleet(worker("a", 1, echo=HandlerInfo()), worker("b", 2, echo=HandlerInfo(), aa=info))
    fleet.schemas = {"b": {"aa": NUMBERS}}
    first, second = await fleet.catalog.known_types()
    assert first == KnownType(
        type="aa", info=info, max_retries=0, timeout_seconds=9, worker_count=1, schemas=NUMBERS
    )
    assert (second.type, second.worker_count, second.max_retries) == ("echo", 2, 4)
