"""Everything a partition holds, read in one call, in the words of the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from taskqueue_core.events import STATE_LETTERS, Event, unpack
from taskqueue_core.keys import GROUP, Keys
from taskqueue_core.states import TaskState

#: One script sees everything at one moment, and is many times as fast as as many calls.
_LOOK: Final = """
local P, group, seen = ARGV[1], ARGV[2], ARGV[3]
local streams, tasks, held = {}, {}, {}
for priority = 0, 3 do
  local stream = P .. 'q:default:' .. priority
  local pending = redis.pcall('XPENDING', stream, group, '-', '+', 1000)
  streams[#streams + 1] = { redis.call('XRANGE', stream, '-', '+'), pending.err and {} or pending }
end
local names = redis.call('KEYS', P .. '*')
for _, name in ipairs(names) do
  local id = string.match(name, ':t:(%x+)$')
  if id then
    local row = redis.call('HMGET', name, 's', 'a', 'l', 'f', 'm', 'p', 'X')
    tasks[#tasks + 1] = { id, row }
  end
end
for _, name in ipairs(redis.call('SMEMBERS', P .. 'held')) do
  held[#held + 1] = { name, redis.call('ZRANGE', P .. 'hold:' .. name, 0, -1) }
end
local function scores(name) return redis.call('ZRANGE', P .. name, 0, -1, 'WITHSCORES') end
return { tasks, streams, scores('sched'), scores('done'), scores('dlq'), held,
  redis.call('HGET', P .. 'stats', 'backlog') or '0', names,
  redis.call('XRANGE', P .. 'ev', '(' .. seen .. '-0', '+') }
"""

#: Make every lease older, by the time that the clock of the scripts has been moved.
_AGE: Final = """
for priority = 0, 3 do
  local stream = ARGV[1] .. 'q:default:' .. priority
  local rows = redis.pcall('XPENDING', stream, ARGV[2], '-', '+', 1000)
  for _, row in ipairs(rows.err and {} or rows) do
    redis.call('XCLAIM', stream, ARGV[2], row[2], 0, row[1], 'IDLE', row[3] + ARGV[3], 'JUSTID')
  end
end
"""

#: Kinds of keys that belong to a task each.
_OF_TASKS: Final = frozenset({"t", "b", "r", "h"})

#: State, attempts, lost leases, fence, and whether it was asked to stop.
Row = tuple[TaskState, int, int, tuple[int, str], bool]


@dataclass
class Look:
    """What there is: the tasks, and each of the places a task can be in."""

    tasks: dict[str, Row] = field(default_factory=dict)
    waiting: list[list[str]] = field(default_factory=lambda: [[], [], [], []])
    running: dict[str, str] = field(default_factory=dict)
    scheduled: dict[str, int] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    dead: dict[str, int] = field(default_factory=dict)
    held: dict[str, list[str]] = field(default_factory=dict)
    backlog: int = 0


@dataclass
class Found:
    """What was found, with what the model knows nothing of: ages, and keys without a task."""

    look: Look
    ages: dict[str, int] = field(default_factory=dict)
    strays: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


async def look(redis: Any, keys: Keys, seen: int) -> Found:
    """Read a partition whose only queue is ``default``, and the events behind number ``seen``."""
    reply = await redis.eval(_LOOK, 1, keys.meta, keys.prefix, GROUP, seen)
    tasks, streams, sched, done, dead, held, backlog, names, events = reply
    found = Found(
        Look(
            scheduled=_scores(sched),
            done=_scores(done),
            dead=_scores(dead),
            held={name.decode(): [one.decode() for one in ids] for name, ids in held},
            backlog=int(backlog),
        )
    )
    places = {}
    for digits, row in tasks:
        letter, attempts, lost, fence, entry, priority, asked = row
        number, _, instance = (fence or b"0:").decode().partition(":")
        found.look.tasks[digits.decode()] = (
            STATE_LETTERS[letter.decode()],
            int(attempts or 0),
            int(lost or 0),
            (int(number), instance),
            asked is not None,
        )
        places[digits.decode()] = (int(priority or 1), entry)
    for priority, (entries, pending) in enumerate(streams):
        _read_stream(found, priority, entries, pending, places)
    for name in names:
        kind, _, digits = name.decode().removeprefix(keys.prefix).partition(":")
        if kind in _OF_TASKS and digits not in found.look.tasks:
            found.strays.append(name.decode())
    for entry, fields in events:
        found.events += unpack(int(entry.partition(b"-")[0]), fields[1])
    return found


async def age(redis: Any, keys: Keys, milliseconds: int) -> None:
    """Make every lease of a partition older."""
    await redis.eval(_AGE, 1, keys.meta, keys.prefix, GROUP, milliseconds)


def _scores(rows: list[bytes]) -> dict[str, int]:
    return {name.decode(): int(score) for name, score in zip(rows[::2], rows[1::2], strict=True)}


def _read_stream(
    found: Found, priority: int, entries: Any, pending: Any, places: dict[str, Any]
) -> None:
    owners = {entry: (consumer.decode(), idle) for entry, consumer, idle, _ in pending}
    for entry, fields in entries:
        digits = fields[1].decode()
        if places.get(digits) != (priority, entry):
            found.strays.append(f"{priority} {entry.decode()} of {digits}")
        elif entry in owners:
            found.look.running[digits], found.ages[digits] = owners.pop(entry)
        else:
            found.look.waiting[priority].append(digits)
    found.strays += [f"{priority} {entry.decode()} is pending but deleted" for entry in owners]
