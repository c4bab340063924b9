"""Measurements: histograms that are taken, not copied."""

from __future__ import annotations

import threading

from taskqueue_core.metrics import bucket, field
from taskqueue_core.worker.measurements import Measurements


def test_every_measure_has_a_bucket_and_a_sum() -> None:
    """A clock that went back counts as no wait."""
    measured = Measurements()
    measured.ran("echo", 7, is_completed=True)
    measured.ran("echo", 7, is_completed=False)
    measured.waited(3, -5)
    measured.will_retry("echo", 1000)
    assert measured.take() == {
        field("duration", "echo", bucket(7)): 2,
        "duration_ms:echo": 14,
        field("wait", "3", bucket(0)): 1,
        "wait_ms:3": 0,
        field("retry_delay", "echo", bucket(1000)): 1,
        "retry_delay_ms:echo": 1000,
    }
    assert measured.take() == {}


def test_nothing_is_lost_between_threads() -> None:
    """What is added while another thread takes is in this taking or in the next."""
    measured, total, is_done = Measurements(), 0, threading.Event()

    def add() -> None:
        for _ in range(20_000):
            measured.ran("echo", 1, is_completed=True)
        is_done.set()

    thread = threading.Thread(target=add)
    thread.start()
    while not is_done.is_set():
        total += measured.take().get("duration_ms:echo", 0)
    thread.join()
    assert total + measured.take().get("duration_ms:echo", 0) == 20_000


def test_rates() -> None:
    """The mean of the last minute, of a younger worker since its start, each kind by itself."""
    now = [100.0]
    measured = Measurements(lambda: now[0])
    assert measured.rates() == (0.0, 0.0)
    for number in range(30):
        now[0] = 100.0 + number
        measured.ran("echo", 1, is_completed=number % 3 > 0)
    now[0] = 140.0
    assert measured.rates() == (20 / 40, 10 / 40)
    now[0] = 161.0
    completed, failed = measured.rates()
    assert (round(completed * 60), round(failed * 60)) == (16, 8)
    now[0] = 1000.0
    assert measured.rates() == (0.0, 0.0)


def test_rates_need_little_memory() -> None:
    """Tens of thousands of tasks are a few numbers."""
    now = [0.0]
    measured = Measurements(lambda: now[0])
    for number in range(20_000):
        now[0] = number / 100
        measured.ran("echo", 1, is_completed=True)
    assert len(measured._completed._steps) <= 13
    assert 90 < measured.rates()[0] <= 101


def test_slot_seconds() -> None:
    """Time with a task and without one, of all slots together; both go on while tasks run."""
    now = [10.0]
    measured = Measurements(lambda: now[0], slots=3)
    assert measured.slot_seconds() == (0.0, 0.0)
    now[0] = 12.0
    measured.began()
    measured.began()
    now[0] = 15.0
    assert measured.slot_seconds() == (6.0, 9.0)
    measured.ended()
    now[0] = 16.0
    assert measured.slot_seconds() == (7.0, 11.0)


def test_more_tasks_than_slots() -> None:
    """Slots are never less than idle, whatever was taken over beyond them."""
    now = [0.0]
    measured = Measurements(lambda: now[0], slots=1)
    measured.began()
    measured.began()
    now[0] = 1.0
    assert measured.slot_seconds() == (2.0, 0.0)
