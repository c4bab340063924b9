"""Many WebSocket clients while tasks are drained: none is cut off, all account for every event."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import rig
from audience import Account
from machine import cpu_seconds
from report import Report
from rig import BenchError, Rig

from taskqueue_core.broker import Broker

_AUDIENCE = Path(__file__).parent / "audience.py"
#: Client processes; the clients are shared out among them.
_PROCESSES = 2
#: One in so many clients leaves in the middle and comes back for what it has not had.
_RETURNING = 10
_EVENTS_A_TASK = 3


async def measure_crowd(bench: Rig, report: Report, *, tasks: int, clients: int) -> None:
    """Let ``clients`` follow ``tasks`` echo tasks from their submission to their end.

    Raises BenchError when one of them is disconnected, or has events that it cannot account for.
    """
    report.progress(f"{clients} WebSocket clients while {tasks} tasks are drained")
    settings = bench.settings("crowd", concurrency=100)
    async with bench.broker(settings) as broker, bench.worker(broker):
        with bench.server(settings) as (pid, port):
            first = await _last_event(broker)
            async with _audience(port, clients, first, tasks) as processes:
                if await _last_event(broker) != first:
                    raise BenchError("something happened before the tasks were submitted")
                server_cpu, started = cpu_seconds(pid), time.perf_counter()
                await rig.submit(broker, tasks)
                await rig.run_to_the_end(broker)
                drained_seconds = time.perf_counter() - started
                last = await _last_event(broker)
                accounts = await _accounts(processes, last)
                seconds = time.perf_counter() - started
                server_cpu = cpu_seconds(pid) - server_cpu
    events = last - first
    if len(accounts) != clients:
        raise BenchError(f"{len(accounts)} of {clients} clients told what they had")
    _check(accounts, events)
    deliveries = sum(account.received for account in accounts)
    staying = [account for account in accounts if not account.returns]
    missed = sum(account.missed for account in staying)
    report.add(
        f"Events to {clients} WebSocket clients of one server process, {tasks} tasks drained",
        "crowd",
        {
            ("events", ""): [events],
            ("written", "events/s"): [events / drained_seconds],
            ("speed", "deliveries/s"): [deliveries / seconds],
            ("server CPU", "us/delivery"): [server_cpu / deliveries * 1e6],
            ("longest delay", "s"): [max(account.max_delay_seconds for account in staying)],
            ("gaps", ""): [sum(account.gaps for account in accounts)],
            ("missed", "%"): [100 * missed / (events * len(staying))],
            ("returns", ""): [sum(account.returns for account in accounts)],
        },
    )


def _check(accounts: Sequence[Account], events: int) -> None:
    """Raise BenchError unless every client accounts for every event, exactly."""
    for place, account in enumerate(accounts):
        if faults := account.find_faults(events):
            raise BenchError(f"client {place} of {len(accounts)}: {'; '.join(faults)}")
    if not any(account.returns for account in accounts):
        raise BenchError("no client came back")


async def _last_event(broker: Broker) -> int:
    reply = await broker.redis.hget(broker.partitions[0].meta, "events")
    return int(reply or 0)


@asynccontextmanager
async def _audience(
    port: int, clients: int, first: int, tasks: int
) -> AsyncIterator[Sequence[Process]]:
    """Yield the client processes, once all their clients are connected."""
    leaves_at = first + tasks * _EVENTS_A_TASK // 2
    shares = [clients // _PROCESSES + (n < clients % _PROCESSES) for n in range(_PROCESSES)]
    async with AsyncExitStack() as stack:
        processes = []
        for share in shares:
            numbers = (port, share, -(-share // _RETURNING), first, leaves_at)
            arguments = map(str, (_AUDIENCE, *numbers, rig.PATIENCE_SECONDS))
            process = await asyncio.create_subprocess_exec(
                sys.executable, *arguments, stdin=PIPE, stdout=PIPE, limit=2**24
            )
            stack.push_async_callback(_end, process)
            processes.append(process)
        for process in processes:
            if await _line(process) != b"ready\n":
                raise BenchError("clients could not connect")
        yield processes


async def _accounts(processes: Sequence[Process], last: int) -> list[Account]:
    """Tell the clients which event is the last one, and return what each has had."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"%d\n" % last)
    lines = await asyncio.gather(*(_line(process) for process in processes))
    return [Account(**account) for line in lines for account in json.loads(line or b"[]")]


async def _line(process: Process) -> bytes:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(rig.PATIENCE_SECONDS + 30):
            return await process.stdout.readline()
    except TimeoutError:
        raise BenchError("the clients said nothing") from None


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()
