"""Break one rule of the Lua scripts at a time and see whether the model notices.

``python tests/broker/mutants.py [--examples N] [--with own|random|all] [NAME ...]`` works on a copy
of the tree and prints a line a mutant; the exit code is 1 when one survives that is not known to be
equivalent.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LUA = Path("taskqueue_core/broker/lua")
TESTS = "tests/broker/test_model.py"
#: Which histories are tried -> the tests that try them.
CHOICES = {
    "own": TESTS + "::test_known_histories_agree_with_the_model[embedded-{}]",
    "random": TESTS + "::test_random_histories_agree_with_the_model",
    "all": TESTS,
}
#: What the tests need beside their folder.
SHARED = ("tests/conftest.py", "tests/topology.py", "pyproject.toml")


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
        "a key is forgotten",
        "submit.lua",
        "if record and not kept then",
        "if false then",
    ),
    Mutant(
        "a key is not compared",
        "submit.lua",
        "if string.sub(kept, 1, 32) ~= fingerprint then return nil end",
        "",
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
        "promote leaves the schedule",
        "due.lua",
        "redis.call('ZREM', SCHEDULE, unpack(ids))\n  return queues, #ids",
        "return queues, #ids",
    ),
    Mutant(
        "held tasks stay in the schedule",
        "due.lua",
        "if #ids > 0 then redis.call('ZREM', SCHEDULE, unpack(ids)) end",
        "",
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
        "purge of running tasks",
        "purge.lua",
        "if t[1] == 'p' and t[3] == entry[1] then",
        "if t[1] == 'p' or t[1] == 'r' then",
    ),
    Mutant("redrive keeps lost leases", "restart.lua", "'a', 'l', 'o'", "'a', 'o'"),
    Mutant("retain is early", "retain.lua", "delete(DONE, now, ", "delete(DONE, now + 86400000, "),
    Mutant("retain leaves the body", "retain.lua", "keys[#keys + 1] = body_key(id)", ""),
    Mutant("retain leaves the history", "retain.lua", "keys[#keys + 1] = history_key(id)", ""),
    Mutant(
        "cancel tells nobody",
        "cancelling.lua",
        "emit('task.cancelled', id, t[2], priority, 'x', t[6] or 0)",
        "",
    ),
    Mutant(
        "promote tells nobody",
        "due.lua",
        "emit('task.queued', id, t[2], priority, 'p', t[6] or 0)",
        "",
    ),
    Mutant(
        "grace is forgiven for ever",
        "recover.lua",
        "redis.call('HSETNX', task_key(id), 'o', '1') == 1",
        "true",
    ),
    Mutant(
        "fetch repeats what is another's",
        "fetch.lua",
        "if t[1] == 'r' and t[4] == given .. ':' .. instance then",
        "if t[1] == 'r' then",
    ),
    Mutant("hold burns an attempt", "outcomes.lua", "task.attempts = task.attempts - 1", ""),
    Mutant("hold begins anew", "outcomes.lua", "tonumber(task.held_since or now)", "tonumber(now)"),
    Mutant(
        "a failure is no end of holding",
        "outcomes.lua",
        "if task.held_since then redis.call('HDEL', o.key, 'i') end",
        "",
    ),
    Mutant(
        "hold is not indexed",
        "outcomes.lua",
        "put_aside(o.id, task.type, task.priority, since)",
        "",
    ),
    Mutant(
        "held tasks are anybody's",
        "due.lua",
        "string.gmatch(types, '%S+')",
        "string.gmatch(table.concat(redis.call('SMEMBERS', HELD), ' '), '%S+')",
    ),
    Mutant("more held tasks than wanted", "due.lua", "if #ids == limit then break end", ""),
    Mutant(
        "least urgent held tasks first",
        "held.lua",
        "(3 - tonumber(priority))",
        "tonumber(priority)",
    ),
    Mutant(
        "promote leaves the held index", "due.lua", "if t[8] then bring_back(t[2], { id }) end", ""
    ),
    Mutant(
        "cancel leaves the held index",
        "cancelling.lua",
        "if t[1] == 's' and redis.call('HEXISTS', key, 'i') == 1 then bring_back(t[2], { id }) end",
        "",
    ),
    Mutant(
        "held types stay",
        "held.lua",
        "redis.call('SREM', HELD, task_type)",
        "redis.call('SCARD', HELD)",
    ),
    Mutant(
        "fetch starts what is paused",
        "fetch.lua",
        "may_start(stream) and read(stream, n) or {}",
        "read(stream, n)",
    ),
    Mutant("held tasks start though paused", "fetch.lua", "= may_start(KEYS[i]) end", "= true end"),
    Mutant(
        "a pause is want of a handler",
        "pause_priority.lua",
        "redis.call('HSET', META, 'resumed:' .. priority, now)",
        "",
    ),
    Mutant("recover starts what is paused", "recover.lua", "if not may_start(stream)", "if false"),
    Mutant(
        "a failure outlives the request to stop",
        "outcomes.lua",
        "if task.is_cancelled then\n    local fields",
        "if false then\n    local fields",
    ),
    Mutant(
        "a release outlives the request to stop",
        "endings.lua",
        "if task.is_cancelled then return cancel_running(o, task, task.attempts - 1) end",
        "",
    ),
    Mutant(
        "a lost lease outlives the request to stop",
        "recover.lua",
        "if redis.call('HEXISTS', task_key(id), 'X') == 1 then",
        "if false then",
    ),
    Mutant(
        "the request to stop outlives the result",
        "endings.lua",
        "if task.is_cancelled then redis.call('HDEL', o.key, 'X') end",
        "",
    ),
    Mutant(
        "the request to stop outlives the task",
        "endings.lua",
        "redis.call('HDEL', o.key, 'X')\n  redis.call('HSET', o.key, 's', 'x'",
        "redis.call('HSET', o.key, 's', 'x'",
    ),
    Mutant(
        "stop is not repeatable",
        "cancel.lua",
        "if t[1] == 'x' and t[7] == token then return '' end",
        "",
    ),
    Mutant(
        "low priority first",
        "fetch.lua",
        "local taken, at, skipped = {}, 3, 0",
        "local taken, at, skipped = {}, 4, 0",
    ),
)


def run(mutant: Mutant, examples: int | None, tests: str) -> bool:
    """Return whether these tests notice the mutant."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in ("taskqueue_core", "tests/broker"):
            shutil.copytree(ROOT / name, tree / name)
        for name in SHARED:
            shutil.copy(ROOT / name, tree / name)
        file = tree / LUA / mutant.file
        text = file.read_text()
        if text.count(mutant.old) != 1:
            raise SystemExit(f"{mutant.name}: the text stands {text.count(mutant.old)} times")
        file.write_text(text.replace(mutant.old, mutant.new))
        environ = os.environ | {"PYTHONPATH": folder, "MODEL_SHRINK": "0"}
        if examples is not None:
            environ["MODEL_EXAMPLES"] = str(examples)
        result = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", tests],
            cwd=tree,
            env=environ,
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
    parser.add_argument("--examples", type=int, help="random histories a mutant (CI's budget)")
    parser.add_argument(
        "--with", dest="histories", choices=CHOICES, default="all", help="histories to try (all)"
    )
    parser.add_argument("names", nargs="*", help="mutants to run (all)")
    options = parser.parse_args()
    chosen = [m for m in MUTANTS if not options.names or m.name in options.names]
    if options.histories == "own":
        chosen = [mutant for mutant in chosen if not mutant.equivalent]
    survivors = []
    for number, mutant in enumerate(chosen, 1):
        begun = time.monotonic()
        is_caught = run(mutant, options.examples, CHOICES[options.histories].format(mutant.name))
        survivors += [] if is_caught or mutant.equivalent else [mutant.name]
        verdict = "caught" if is_caught else "equivalent" if mutant.equivalent else "SURVIVED"
        seconds = time.monotonic() - begun
        sys.stdout.write(f"{number:2}/{len(chosen)} {verdict:10} {seconds:5.0f} s  {mutant.name}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(survivors)} of {len(chosen)} survive without a reason\n")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
