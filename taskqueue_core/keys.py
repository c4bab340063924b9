"""Every key name of the data model, and the ids that carry their partition.

All keys of one partition share the hash tag ``{<namespace>.<partition>}``, so that a script needs
one slot only. A task id is a UUIDv7 (RFC 9562) whose last byte is its partition; keys hold it as
32 hexadecimal digits, which saves 4 bytes in every key and index over the dashed form.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from typing import Final

MAX_PARTITIONS: Final = 256
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

#: Consumer group of every queue stream.
GROUP: Final = "workers"

#: Bell that is rung when a queue is created, for the workers that serve all queues.
ANY_QUEUE: Final = "*"


def new_task_id(partition: int = 0) -> str:
    """Return a fresh UUIDv7 in canonical form whose last byte is ``partition``."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(9), "big")
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80
    value |= 0x7 << 76 | (random >> 60) << 64
    value |= 0b10 << 62 | (random & 0x3F_FFFF_FFFF_FFFF) << 8 | partition
    return id_from_hex(f"{value:032x}")


def parse_task_id(text: str) -> str | None:
    """Return ``text`` as a canonical id, or ``None`` when it is not a UUID at all."""
    lowered = text.lower()
    return lowered if _UUID.fullmatch(lowered) else None


def partition_of(task_id: str) -> int:
    """Return the partition that the id names in its last byte."""
    return int(task_id[-2:], 16)


def id_to_hex(task_id: str) -> str:
    """Return the canonical id as the 32 digits that keys hold."""
    return task_id.replace("-", "")


def id_from_hex(digits: str) -> str:
    """Return 32 hexadecimal digits as a canonical id."""
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def api_keys(namespace: str) -> str:
    """HASH: id -> record of an API key; the one key that belongs to no partition."""
    return f"tq:{{{namespace}.keys}}"


@dataclass(frozen=True, slots=True)
class Keys:
    """Key names of one partition. Ids are 32 digits here, queues and workers checked names."""

    namespace: str
    partition: int = 0

    @property
    def prefix(self) -> str:
        """Return what every key of the partition starts with."""
        return f"tq:{{{self.namespace}.{self.partition}}}:"

    @property
    def meta(self) -> str:
        """HASH: schema version, partitions, event number, last heartbeat."""
        return self.prefix + "meta"

    @property
    def queues(self) -> str:
        """ZSET: queue -> time of its last use."""
        return self.prefix + "queues"

    @property
    def schedule(self) -> str:
        """ZSET: id -> time it is due; scheduled and retrying tasks."""
        return self.prefix + "sched"

    @property
    def done(self) -> str:
        """ZSET: id -> time it is deleted; completed, cancelled and failed tasks."""
        return self.prefix + "done"

    @property
    def dead_letters(self) -> str:
        """ZSET: id -> time of death."""
        return self.prefix + "dlq"

    @property
    def events(self) -> str:
        """STREAM: events, numbered densely over the partition."""
        return self.prefix + "ev"

    @property
    def stats(self) -> str:
        """HASH: counters of the whole fleet."""
        return self.prefix + "stats"

    @property
    def types(self) -> str:
        """ZSET: task type -> time a live worker last said that it handles it."""
        return self.prefix + "types"

    @property
    def workers(self) -> str:
        """ZSET: worker -> time its registration expires."""
        return self.prefix + "workers"

    @property
    def held_types(self) -> str:
        """SET: types of which tasks are held, put aside until a worker has a handler for them."""
        return self.prefix + "held"

    def held(self, task_type: str) -> str:
        """ZSET: id -> rank, by priority and wait; the held tasks of a type."""
        return f"{self.prefix}hold:{task_type}"

    def task(self, digits: str) -> str:
        """HASH: state and properties of a task."""
        return f"{self.prefix}t:{digits}"

    def body(self, digits: str) -> str:
        """STRING: payload and metadata of a task when they are over 64 bytes."""
        return f"{self.prefix}b:{digits}"

    def result(self, digits: str) -> str:
        """STRING: result or last error of a task when it is over 64 bytes."""
        return f"{self.prefix}r:{digits}"

    def history(self, digits: str) -> str:
        """LIST: records of a task's failed attempts."""
        return f"{self.prefix}h:{digits}"

    def stream(self, queue: str, priority: int) -> str:
        """STREAM with group ``workers``: one entry per waiting or running task."""
        return f"{self.prefix}q:{queue}:{priority}"

    def bell(self, queue: str) -> str:
        """LIST of no or one token that wakes an idle worker."""
        return f"{self.prefix}wake:{queue}"

    def own_bell(self, worker: str) -> str:
        """LIST of no or one token that wakes one worker: tasks that it can run are held."""
        return f"{self.prefix}call:{worker}"

    def control(self, worker: str) -> str:
        """LIST: messages to one worker."""
        return f"{self.prefix}ctl:{worker}"

    def idempotency(self, record: str) -> str:
        """STRING: fingerprint of a request, and how the ids of the tasks that it made begin."""
        return f"{self.prefix}idem:{record}"

    def rate(self, client: str) -> str:
        """STRING: time at which all of a client's requests are paid for."""
        return f"{self.prefix}rate:{client}"

    def worker(self, worker: str) -> str:
        """HASH: registration of one worker."""
        return f"{self.prefix}w:{worker}"
