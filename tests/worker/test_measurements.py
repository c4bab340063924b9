"""Measurements: histograms that are taken, not copied."""

from __future__ import annotations

import threading

from taskqueue_core.metrics import bucket, field
from taskqueue_core.worker.measurements import Measurements


def test_every_measure_has_a_bucket_and_a_sum() -> None:
    """A clock that went back counts as no wait."""
    measured = Measurements()
    measured.ran("echo", 7)
    measured.ran("echo", 7)
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
            measured.ran("echo", 1)
        is_done.set()

    thread = threading.Thread(target=add)
    thread.start()
    while not is_done.is_set():
        total += measured.take().get("duration_ms:echo", 0)
    thread.join()
    assert total + measured.take().get("duration_ms:echo", 0) == 20_000
