"""Submit tasks over HTTP without pause, and note every one that was accepted."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

#: Longest wait for an answer, in seconds: a server that hangs longer breaks its promise.
ANSWER_SECONDS: Final = 30.0
_TYPES: Final = ("verify.async",) * 6 + ("verify.thread",) * 3 + ("verify.block",)


class Accepted(msgspec.Struct, frozen=True):
    """A submission that was answered with 201 at ``at``, by ``time.monotonic``."""

    task_id: str
    at: float


@dataclass(slots=True)
class Tally:
    """What became of the submissions, which went on ``until`` some time.

    ``slowest_seconds`` is the longest wait for any answer.
    """

    accepted: list[Accepted] = field(default_factory=list)
    refused: int = 0
    unanswered: int = 0
    unexpected: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0
    until: float = 0.0


class Submitter:
    """Clients of the servers at ``urls``; each writes a 201 down before its next request."""

    def __init__(
        self, urls: Sequence[str], journal: Path, rng: random.Random, *, tasks_per_second: float
    ) -> None:
        self.tally = Tally()
        self._urls = urls
        self._journal = journal
        self._rng = rng
        self._pause = 1 / tasks_per_second

    async def run(self, clients: int) -> None:
        """Submit until cancelled; ``clients`` requests at once."""
        limits = httpx.Limits(max_keepalive_connections=clients)
        async with httpx.AsyncClient(timeout=ANSWER_SECONDS, limits=limits) as http:
            with self._journal.open("ab", buffering=0) as journal:
                calls = [self._client(http, journal, clients) for _ in range(clients)]
                try:
                    await asyncio.gather(*calls)
                finally:
                    self.tally.until = time.monotonic()

    async def _client(self, http: httpx.AsyncClient, journal: Any, clients: int) -> None:
        while True:
            await asyncio.sleep(self._pause * clients * (0.5 + self._rng.random()))
            began = time.monotonic()
            accepted = await self._submit(http)
            now = time.monotonic()
            self.tally.slowest_seconds = max(self.tally.slowest_seconds, now - began)
            if accepted:
                note = Accepted(accepted, now)
                journal.write(msgspec.json.encode(note) + b"\n")
                self.tally.accepted.append(note)

    async def _submit(self, http: httpx.AsyncClient) -> str | None:
        """Submit one task; its id if it was accepted."""
        url = f"{self._rng.choice(self._urls)}/api/v1/tasks"
        try:
            answer = await http.post(url, json=new_task(self._rng))
            if answer.status_code == 201:
                return str(answer.json()["id"])
        except httpx.TimeoutException:
            self.tally.unanswered += 1
            self.tally.unexpected.append(f"no answer within {ANSWER_SECONDS:g} s")
            return None
        except (httpx.TransportError, ValueError):
            # The server died: whether it had stored the task nobody knows.
            self.tally.unanswered += 1
            return None
        if answer.status_code == 503:
            self.tally.refused += 1
        else:
            self.tally.unexpected.append(f"{answer.status_code}: {answer.text[:200]}")
        return None


def new_task(rng: random.Random) -> dict[str, Any]:
    """Return a submission; its metadata says in which state it is to end."""
    failures = rng.choices((0, 1, 2, 9), (85, 8, 3, 4))[0]
    task_type = rng.choice(_TYPES)
    longest = 30 if task_type == "verify.block" else 1500
    payload: dict[str, Any] = {"milliseconds": rng.randint(1, longest), "failures": failures}
    if rng.random() < 0.3:
        payload["padding"] = "x" * rng.randint(64, 2000)
    task: dict[str, Any] = {
        "type": task_type,
        "payload": payload,
        "priority": rng.randrange(4),
        "max_retries": 2,
        "metadata": {"expected": "completed" if failures <= 2 else "dead_letter"},
    }
    if rng.random() < 0.15:
        due = datetime.now(UTC) + timedelta(seconds=rng.uniform(0.2, 3.0))
        task["scheduled_at"] = due.isoformat(timespec="milliseconds")
    return task
