"""What an operator asks a server about a deep queue, one request after the other."""

from __future__ import annotations

import json
import time
from http.client import HTTPConnection
from urllib.parse import urlencode

import rig
from report import Report, percentile
from rig import BenchError

from taskqueue_core.codec import format_time

_STATES = ("pending", "running", "scheduled", "dead_letter", "completed")
_GROUPS = "/admin/dlq/groups"


class Client:
    """One kept-alive connection, timed from the request to the end of the answer."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=rig.PATIENCE_SECONDS)

    def get(self, path: str, **query: str) -> tuple[float, bytes]:
        """Return how long an answer took in ms, and its body."""
        target = f"{path}?{urlencode(query)}" if query else path
        started = time.perf_counter()
        self._connection.request("GET", target)
        answer = self._connection.getresponse()
        body = answer.read()
        took_ms = (time.perf_counter() - started) * 1000
        if answer.status != 200:
            raise BenchError(f"GET {target}: {answer.status} {body[:300].decode()}")
        return took_ms, body

    def first_pages(self, path: str, query: dict[str, str], times: int) -> list[float]:
        """Ask for the first page again and again."""
        return [self.get(path, **query)[0] for _ in range(times)]

    def following_pages(self, path: str, query: dict[str, str], times: int) -> list[float]:
        """Go on from page to page, and behind the last one begin again; empty if there is one."""
        took: list[float] = []
        cursor = None
        while len(took) < times:
            if cursor is None:
                cursor = json.loads(self.get(path, **query)[1]).get("next_cursor")
                if cursor is None:
                    break
            took_ms, body = self.get(path, **query, cursor=cursor)
            took.append(took_ms)
            cursor = json.loads(body).get("next_cursor")
        return took


def measure_pages(report: Report, port: int, middle_ms: int, *, times: int, most_ms: float) -> None:
    """Measure every kind of page ``times`` times; ``middle_ms`` is when half of the tasks was made.

    Blocks: nothing else is to run meanwhile.
    """
    client = Client(port)
    client.first_pages("/admin/queues", {}, 5)
    for name, query in _filters(middle_ms).items():
        row = f"GET /admin/tasks, {name}"
        _add(report, row, client.first_pages("/admin/tasks", query, times), most_ms)
        following = client.following_pages("/admin/tasks", query, times)
        if following:
            _add(report, f"{row}, next", following, most_ms)
    for path in ("/admin/queues", "/metrics", "/admin/dlq"):
        _add(report, f"GET {path}", client.first_pages(path, {}, times), most_ms)
    _add(report, "GET /admin/dlq, next", client.following_pages("/admin/dlq", {}, times), most_ms)
    # The server remembers what it has counted: the first time it reads ten thousand errors.
    _add(report, f"GET {_GROUPS}, first", client.first_pages(_GROUPS, {}, 1), None)
    _add(report, f"GET {_GROUPS}", client.first_pages(_GROUPS, {}, times), most_ms)


def _filters(middle_ms: int) -> dict[str, dict[str, str]]:
    """Return the filters by name, of each kind one that finds much and one that finds nothing."""
    window = {
        "created_after": format_time(middle_ms),
        "created_before": format_time(middle_ms + 1_000),
    }
    return {
        "all": {},
        **{f"state={state}": {"state": state} for state in _STATES},
        "type=echo": {"type": "echo"},
        "type=none": {"type": "none"},
        "queue": {"queue": "bulk"},
        "priority": {"priority": "low"},
        "metadata, one in 1000": {"metadata": "customer=7"},
        "metadata, none": {"metadata": "customer=none"},
        "metadata, none, large bodies": {"metadata": "customer=none", "queue": "bulk"},
        "created range": window,
        "created range, none": {"created_before": format_time(1)},
    }


def _add(report: Report, row: str, took_ms: list[float], most_ms: float | None) -> None:
    p99 = percentile(took_ms, 99)
    values = {("p50", "ms"): [percentile(took_ms, 50)], ("p99", "ms"): [p99]}
    report.add("Pages over a deep queue through one server process", row, values)
    if most_ms is not None:
        report.limit(f"{row}, p99", p99, most_ms, "ms")
