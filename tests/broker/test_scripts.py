"""The scripts as texts and as calls: headers, flags, sizes, keys, reloading, limits."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from importlib import resources
from typing import Any

import pytest
from bench import Bench, complete, fail, hold, release
from headers import SECTIONS, header_of

from taskqueue_core import broker as broker_package
from taskqueue_core.broker.scripts import PARTS, Argument, Limits, Scripts, assemble, source
from taskqueue_core.broker.sessions import Report
from taskqueue_core.errors import BrokerError, BrokerFullError, BrokerUnavailableError
from taskqueue_core.keys import Keys
from taskqueue_core.models import Priority
from taskqueue_core.settings import Settings
from taskqueue_core.states import TaskState

LUA = resources.files(broker_package) / "lua"
FILES = sorted(file.name.removesuffix(".lua") for file in LUA.iterdir() if ".lua" in file.name)
LIMITS = Limits.from_settings(Settings())
FLAGS = {
    "allow-oom": "#!lua flags=allow-oom",
    "no-writes": "#!lua flags=no-writes",
    "refused when memory is full": "#!lua",
}
#: They must work when memory is full, for they are what frees it, or keep what was accepted safe,
#: or keep clients at bay.
DRAINING = {
    "fetch", "complete", "fail", "release", "hold", "heartbeat", "promote", "recover", "cancel",
    "purge", "clear", "retain", "register", "pause", "pause_priority", "stop", "deregister",
    "repair", "admit",
}  # fmt: skip
READING = {"read", "depths", "survey", "history", "search", "tally", "causes", "running"}


@pytest.mark.parametrize("script", sorted(PARTS))
def test_header(script: str) -> None:
    """A sentence, then the sections in their order; each script says what it answers."""
    header = header_of(script)
    assert re.fullmatch(r"[A-Z].*[.]", header.sentence)
    names = [name for name, _ in header.sections]
    assert names == sorted(names, key=SECTIONS.index)
    assert {"KEYS", "Returns", "Flags"} <= set(names)
    assert header.keys()[0] >= 1
    assert re.search(r"^KEYS\[1\] <P>meta", header.text("KEYS"))


@pytest.mark.parametrize("script", sorted(PARTS))
def test_flags(script: str) -> None:
    """The first line carries the flags that the header names, and they fit the script's work."""
    flags = header_of(script).text("Flags")
    assert assemble(script, LIMITS).splitlines()[0] == FLAGS[flags]
    assert (flags == "allow-oom") == (script in DRAINING)
    assert (flags == "no-writes") == (script in READING)


@pytest.mark.parametrize("name", FILES)
def test_file(name: str) -> None:
    """A file is short, explains itself, and neither walks the keyspace nor builds task keys."""
    text = source(name)
    lines = text.splitlines()
    assert len(lines) <= 120
    assert max(map(len, lines)) <= 104
    assert lines[0].startswith("-- ")
    assert not re.search(r"'(KEYS|SCAN|[HSZ]SCAN|FLUSHALL|FLUSHDB|EVAL)'", text)
    assert name == "prelude" or not re.search(r"\.\. '[tbrhq]:'", text)
    assert name == "clock" or "'TIME'" not in text


def test_every_file_is_used() -> None:
    """No file is left over, and each script ends with its own file or the shared report."""
    used = {part for parts in PARTS.values() for part in parts} | {"clock", "prelude", "events"}
    assert set(FILES) == used
    assert all(name in parts for name, parts in PARTS.items())


def test_limits_are_the_settings() -> None:
    """Every limit is a Lua local, in the units of the data."""
    line = assemble("submit", LIMITS).splitlines()[1]
    names, values = line.removeprefix("local ").split(" = ")
    found = dict(zip(names.split(", "), map(int, values.split(", ")), strict=True))
    assert found["LEASE_MS"] == 15_000
    assert found["RETENTION_MS"] == 7 * 86_400_000
    assert (found["MAX_RATE"], found["IDEMPOTENCY_MS"]) == (1_000, 86_400_000)
    assert set(found) == {name.upper() for name in Limits.__slots__}


async def use_everything(bench: Bench) -> None:
    """Call every script at least once, through the methods that callers use."""
    one, broker = bench.w1, bench.broker
    delivery = await bench.start()
    await broker.submit_many([bench.new() for _ in range(3)])
    a, b, c = (await bench.fetch(3, outcomes=[complete(delivery)])).deliveries
    await bench.beat(held=[a, b], types=["echo"], counters={"wait_ms:1": 1})
    await one.progress([Report(a, 0.5)], request=1)
    await one.complete([complete(a)])
    await one.fail([fail(b)])
    await one.release([release(c)])
    await one.hold([hold(c)])
    await one.recover(3, streams=await bench.streams())
    await broker.redrive()
    await bench.make(TaskState.DEAD_LETTER)
    await broker.dead_letters.page()
    await broker.dead_letters.groups()
    await broker.dead_letters.count()
    await broker.clear()
    await broker.retry((await bench.make(TaskState.CANCELLED))[0])
    await broker.purge(Priority.NORMAL)
    await broker.promote()
    await broker.retain()
    await broker.pause("w1")
    await broker.priorities.pause(Priority.LOW)
    await broker.admission.take("a client")
    await broker.inspection.running("w1")
    await broker.inspection.queue_stats()
    await broker.inspection.survey()
    await broker.history.read(None, 10)
    await one.stop()
    await one.deregister()
    assert [sentence async for sentence in broker.repair()] == []


@pytest.mark.anyio
async def test_callers_match_the_headers(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call passes as many keys and arguments as the header names, and meta first."""
    calls: dict[str, list[tuple[int, int]]] = defaultdict(list)
    call = Scripts.call

    async def record(
        self: Scripts, name: str, keys: Sequence[str], arguments: Sequence[Argument] = ()
    ) -> Any:
        assert keys[0] == bench.keys.meta
        calls[name].append((len(keys), len(arguments)))
        return await call(self, name, keys, arguments)

    monkeypatch.setattr(Scripts, "call", record)
    await use_everything(bench)
    assert set(calls) == set(PARTS)
    for name, sizes in calls.items():
        (keys, more_keys), (arguments, more_arguments) = (
            header_of(name).keys(),
            header_of(name).arguments(),
        )
        for n_keys, n_arguments in sizes:
            assert n_keys == keys or (more_keys and n_keys > keys), name
            assert n_arguments == arguments or (more_arguments and n_arguments > arguments), name


def test_the_data_model_page_names_every_key() -> None:
    """The page beside the scripts lists every key that Python can name."""
    page = (LUA / "README.md").read_text("utf-8")
    keys = Keys("n")
    makers = {"task", "body", "result", "history", "stream", "bell", "control", "worker"}
    makers |= {"held", "own_bell", "idempotency", "rate"}
    names = [getattr(keys, name) for name, kind in vars(Keys).items() if isinstance(kind, property)]
    names += [getattr(keys, maker)("<>", *[1] * (maker == "stream")) for maker in makers]
    for name in names:
        suffix = name.removeprefix(keys.prefix).partition("<")[0]
        assert suffix == keys.prefix or f"`P {suffix}" in page, name


@pytest.mark.anyio
async def test_scripts_that_were_forgotten_are_loaded_again(bench: Bench) -> None:
    """After SCRIPT FLUSH, or a restart, the next call works as if nothing had happened."""
    for _ in range(2):
        await bench.redis.script_flush()
        task_id = await bench.submit()
        assert await bench.state(task_id) is TaskState.PENDING
        await bench.submit()
    assert (await bench.broker.inspection.queue_stats()).backlog == 4


@pytest.mark.anyio
@pytest.mark.parametrize("script", ["promote", "redrive", "clear", "retain", "purge"])
async def test_steps_are_at_most_a_hundred(bench: Bench, script: str) -> None:
    """Whatever a caller asks for, one call works on no more than 100 tasks."""
    broker, keys = bench.broker, [bench.keys.meta]
    first: list[str | int] = []
    if script == "promote":
        due = bench.now + 1
        await broker.submit_many([bench.new(scheduled_at_ms=due) for _ in range(101)])
    else:
        await bench.join()
        await broker.submit_many([bench.new() for _ in range(101)])
    if script in ("redrive", "clear"):
        for _ in range(2):
            deliveries = (await bench.fetch(100)).deliveries
            await bench.w1.fail([fail(delivery) for delivery in deliveries])
        first = [""]
    elif script == "retain":
        await broker.purge(Priority.NORMAL)
    elif script == "purge":
        keys, first = [bench.keys.meta, bench.keys.stream("default", 1)], ["-", ""]
    await bench.advance(7 * 86_400_000)
    rest = ["", "", "", "", "", ""] if script == "redrive" else []
    answer = await broker.scripts.call(script, keys, [*first, 1_000, "token", *rest])
    assert 100 in (answer if isinstance(answer, list) else [answer])


@pytest.mark.anyio
async def test_errors_are_translated(rough_bench: Bench) -> None:
    """An error of a script is a BrokerError that carries what Redis said."""
    bench = rough_bench
    await bench.redis.set(bench.keys.queues, "nonsense")
    with pytest.raises(BrokerError, match="WRONGTYPE") as caught:
        await bench.submit()
    assert not isinstance(caught.value, BrokerFullError | BrokerUnavailableError)
