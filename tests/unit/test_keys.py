"""Task ids and key names."""

from __future__ import annotations

import inspect
import time
from uuid import RFC_4122, UUID

import pytest

from taskqueue_core.keys import (
    MAX_PARTITIONS,
    Keys,
    id_from_hex,
    id_to_hex,
    new_task_id,
    parse_task_id,
    partition_of,
)

ID = "01890a5d-ac96-774b-bcce-b302099a8057"


def test_an_id_is_a_uuid_of_version_7() -> None:
    for _ in range(100):
        value = UUID(new_task_id())
        assert value.version == 7
        assert value.variant == RFC_4122


def test_an_id_begins_with_its_time_in_milliseconds() -> None:
    before = time.time_ns() // 1_000_000
    milliseconds = UUID(new_task_id()).int >> 80
    assert before <= milliseconds <= time.time_ns() // 1_000_000


@pytest.mark.parametrize("partition", [0, 1, 127, 128, MAX_PARTITIONS - 1])
def test_an_id_ends_with_its_partition(partition: int) -> None:
    task_id = new_task_id(partition)
    assert partition_of(task_id) == partition
    assert UUID(task_id).bytes[-1] == partition
    assert UUID(task_id).version == 7


def test_ids_are_canonical_and_differ() -> None:
    ids = [new_task_id(3) for _ in range(20_000)]
    assert len(set(ids)) == len(ids)
    assert all(str(UUID(task_id)) == task_id for task_id in ids[:100])


def test_every_random_bit_is_used() -> None:
    """66 bits are neither time, version, variant nor partition; none may stand still."""
    values = [UUID(new_task_id()).int for _ in range(200)]
    ones = zeros = 0
    for value in values:
        ones |= value
        zeros |= ~value
    random_bits = (0xFFF << 64) | (((1 << 54) - 1) << 8)
    assert ones & zeros & random_bits == random_bits


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ID, ID),
        (ID.upper(), ID),
        ("00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000000"),
        ("", None),
        ("nope", None),
        (ID.replace("-", ""), None),
        ("{" + ID + "}", None),
        (ID + "\n", None),
        (" " + ID, None),
        (ID[:-1] + "g", None),
        (ID[:-1] + "\u0661", None),
        (ID[:-1], None),
    ],
)
def test_only_canonical_uuids_are_ids(text: str, expected: str | None) -> None:
    assert parse_task_id(text) == expected


def test_digits_are_the_id_without_dashes() -> None:
    assert id_to_hex(ID) == "01890a5dac96774bbcceb302099a8057"
    assert id_from_hex(id_to_hex(ID)) == ID


KEYS = Keys("shop", 7)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (KEYS.meta, "meta"),
        (KEYS.queues, "queues"),
        (KEYS.schedule, "sched"),
        (KEYS.done, "done"),
        (KEYS.dead_letters, "dlq"),
        (KEYS.events, "ev"),
        (KEYS.stats, "stats"),
        (KEYS.types, "types"),
        (KEYS.workers, "workers"),
        (KEYS.held_types, "held"),
        (KEYS.held("mail"), "hold:mail"),
        (KEYS.task("ab"), "t:ab"),
        (KEYS.body("ab"), "b:ab"),
        (KEYS.result("ab"), "r:ab"),
        (KEYS.history("ab"), "h:ab"),
        (KEYS.stream("mail", 2), "q:mail:2"),
        (KEYS.bell("mail"), "wake:mail"),
        (KEYS.own_bell("w-1"), "call:w-1"),
        (KEYS.control("w-1"), "ctl:w-1"),
        (KEYS.worker("w-1"), "w:w-1"),
        (KEYS.idempotency("ab"), "idem:ab"),
        (KEYS.rate("ab"), "rate:ab"),
    ],
)
def test_keys_of_a_partition_share_one_hash_tag(key: str, name: str) -> None:
    assert key == "tq:{shop.7}:" + name


def test_every_key_has_a_name_of_its_own() -> None:
    """Queues and workers may be called like anything, so no two kinds of key may meet."""
    members = inspect.getmembers(Keys, lambda member: isinstance(member, property))
    fixed = {name: getattr(KEYS, name) for name, _ in members if name != "prefix"}
    made = [KEYS.task("x"), KEYS.body("x"), KEYS.result("x"), KEYS.history("x"), KEYS.bell("x")]
    made += [KEYS.stream("x", 0), KEYS.control("x"), KEYS.worker("x"), KEYS.own_bell("x")]
    made += [KEYS.held("x"), KEYS.idempotency("x"), KEYS.rate("x")]
    everything = [*fixed.values(), *made]
    assert len(set(everything)) == len(everything)
    kinds = [key.removeprefix(KEYS.prefix).partition(":")[0] for key in everything]
    assert len(set(kinds)) == len(kinds)
