"""Break one rule of the Lua scripts at a time and see whether the model notices.

``python tests/broker/mutants.py [--examples N] [NAME ...]`` works on a copy of the tree and prints
a line a mutant; the exit code is 1 when one survives that is not known to be equivalent.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LUA = Path("taskqueue_core/broker/lua")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One edit: ``old`` must stand exactly once in the file."""

    name: str
    file: str
    old: str
    new: str
    #: Why no history on one broker can tell it from the original.
    equivalent: str = ""


MUTANTS = (
    Mutant(
        "outcome without fence",
        "outcomes.lua",
        "local is_owner = t[6] == ARGV[at + 2] .. ':' .. instance",
        "local is_owner = t[6] ~= nil",
    ),
    Mutant(
        "fence without instance",
        "outcomes.lua",
        "t[6] == ARGV[at + 2] .. ':' .. instance",
        "string.match(t[6] or '', '^%d+') == ARGV[at + 2]",
        equivalent="numbers repeat only after a failover",
    ),
    Mutant(
        "outcome in any state",
        "outcomes.lua",
        "if is_owner and t[1] == 'r' then",
        "if is_owner then",
    ),
    Mutant("submit is not repeatable", "submit.lua", "if known[1] then", "if false then"),
    Mutant(
        "backlog limit off by one",
        "submit.lua",
        "backlog + accepted >= MAX_BACKLOG",
        "backlog + accepted > MAX_BACKLOG",
    ),
    Mutant(
        "delivery number stays",
        "take.lua",
        "'^%d+')) + 1\n  local attempts",
        "'^%d+')) + 0\n  local attempts",
    ),
    Mutant("fetch counts no attempt", "take.lua", "tonumber(t[5] or 0) + 1", "tonumber(t[5] or 0)"),
    Mutant(
        "fetch starts any state",
        "fetch.lua",
        "if t[1] == 'p' and t[3] == entry[1] then",
        "if t[1] then",
        equivalent="an entry that was never read belongs to a pending task, as audited",
    ),
    Mutant(
        "fetch forgets its request",
        "fetch.lua",
        "if is_known and known[3] == request then",
        "if false then",
    ),
    Mutant(
        "promote leaves the schedule", "due.lua", "redis.call('ZREM', SCHEDULE, unpack(ids))", ""
    ),
    Mutant(
        "promote is early",
        "due.lua",
        "tonumber(first[2]) > now then",
        "tonumber(first[2]) > now + 5000 then",
    ),
    Mutant(
        "one retry too many",
        "outcomes.lua",
        "task.attempts > o.max_retries",
        "task.attempts > o.max_retries + 1",
    ),
    Mutant(
        "release burns an attempt",
        "endings.lua",
        "'c', task.created,\n    'a', task.attempts - 1)",
        "'c', task.created,\n    'a', task.attempts)",
    ),
    Mutant(
        "outcome stays on the stream",
        "outcomes.lua",
        "leave(stream_key(task.queue, task.priority), t[3])",
        "",
    ),
    Mutant(
        "lost leases are not counted",
        "recover.lua",
        "redis.call('HSET', task_key(id), 'l', lost + 1)",
        "",
    ),
    Mutant("no poison", "recover.lua", "if lost >= MAX_LOST then", "if false then"),
    Mutant(
        "recover keeps the fence",
        "recover.lua",
        "'f', number + 1 .. ':' .. instance, 'g'",
        "'f', t[4], 'g'",
    ),
    Mutant(
        "no grace after an outage",
        "recover.lua",
        "if now - heartbeat > LEASE_MS or now < grace then",
        "if false then",
    ),
    Mutant(
        "heartbeat renews what is lost",
        "heartbeat.lua",
        "t[1] == 'r' and t[2] == ARGV[at + 1] .. ':' .. instance",
        "t[1] == 'r'",
    ),
    Mutant(
        "forgotten tasks stay",
        "heartbeat.lua",
        "for _, entry in ipairs(idle) do give_back(KEYS[i], entry[1]) end",
        "",
    ),
    Mutant(
        "cancel leaves the entry",
        "cancelling.lua",
        "leave(stream_key(t[4] or 'default', priority), t[3])",
        "",
    ),
    Mutant("cancel leaves the schedule", "cancelling.lua", "redis.call('ZREM', SCHEDULE, id)", ""),
    Mutant(
        "cancel of running tasks",
        "cancel.lua",
        "if t[1] ~= 'p' and",
        "if t[1] ~= 'r' and t[1] ~= 'p' and",
    ),
    Mutant(
        "retry keeps its index entry",
        "restart.lua",
        "redis.call('ZREM', t[1] == 'd' and DEAD or DONE, id)",
        "",
    ),
    Mutant("retry keeps attempts", "restart.lua", "'a', 'l', 'o'", "'l', 'o'"),
    Mutant(
        "clear keeps the dead letter",
        "clear.lua",
        "redis.call('ZREM', DEAD, unpack(ids))",
        "redis.call('ZSCORE', DEAD, ids[1])",
    ),
    Mutant("retain leaves the hash", "retain.lua", "redis.call('UNLINK', unpack(keys))", ""),
    Mutant(
        "backlog does not fall",
        "endings.lua",
        "index(DONE, now + RETENTION_MS, o.id)\n  count('backlog', -1)",
        "index(DONE, now + RETENTION_MS, o.id)",
    ),
    Mutant(
        "low priority first",
        "fetch.lua",
        "local taken, at, skipped = {}, 3, 0",
        "local taken, at, skipped = {}, 4, 0",
    ),
)


def run(mutant: Mutant, examples: int) -> bool:
    """Return whether the model notices the mutant."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in ("taskqueue_core", "tests/broker"):
            shutil.copytree(ROOT / name, tree / name)
        for name in ("tests/conftest.py", "pyproject.toml"):
            shutil.copy(ROOT / name, tree / name)
        file = tree / LUA / mutant.file
        text = file.read_text()
        if text.count(mutant.old) != 1:
            raise SystemExit(f"{mutant.name}: the text stands {text.count(mutant.old)} times")
        file.write_text(text.replace(mutant.old, mutant.new))
        result = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "tests/broker/test_model.py"],
            cwd=tree,
            env=os.environ
            | {"PYTHONPATH": folder, "MODEL_EXAMPLES": str(examples), "MODEL_SHRINK": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode not in (0, 1):
            raise SystemExit(f"{mutant.name}: {result.stdout[-2000:]}")
        return result.returncode == 1


def main() -> int:
    """Run the mutants that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=60, help="histories a mutant (60)")
    parser.add_argument("names", nargs="*", help="mutants to run (all)")
    options = parser.parse_args()
    chosen = [m for m in MUTANTS if not options.names or m.name in options.names]
    survivors = []
    for number, mutant in enumerate(chosen, 1):
        is_caught = run(mutant, options.examples)
        survivors += [] if is_caught or mutant.equivalent else [mutant.name]
        verdict = "caught" if is_caught else "equivalent" if mutant.equivalent else "SURVIVED"
        sys.stdout.write(f"{number:2}/{len(chosen)} {verdict:10} {mutant.name}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(survivors)} of {len(chosen)} survive without a reason\n")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
