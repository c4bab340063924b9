"""Which waiting tasks nobody will start: no live worker takes their type, or their queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from taskqueue_core.models import Survey, WorkerState

#: Most types, and most queues, that are named; the ones with most tasks come first.
MAX_NAMED: Final = 10

#: What a worker that serves every queue serves.
_EVERY: Final = "*"

_types = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class NoWorker:
    """Waiting tasks without a worker: how many, and some of the types and queues they are of."""

    tasks: int
    types: tuple[str, ...]
    queues: tuple[str, ...]


class Coverage:
    """What live workers handle and serve; one that is stopping takes nothing any more.

    A paused worker counts: somebody wants its tasks to wait.
    """

    def __init__(self, workers: Sequence[WorkerState]) -> None:
        taking = [worker for worker in workers if worker.state != "shutting_down"]
        # Workers of one deployment say the same, which is read once.
        said = {(worker.handlers, worker.queues or (_EVERY,)) for worker in taking}
        self._queues_of: dict[str, set[str]] = {}
        self._queues: set[str] = set()
        for handlers, queues in said:
            self._queues.update(queues)
            for task_type in _types.decode(handlers):
                self._queues_of.setdefault(task_type, set()).update(queues)

    def has_worker(self, task_type: str, queue: str) -> bool:
        """Tell whether some worker takes tasks of the type from the queue."""
        return not self._queues_of.get(task_type, set()).isdisjoint((queue, _EVERY))

    def find_unserved(self, survey: Survey) -> NoWorker:
        """Return the waiting tasks that no worker takes.

        The type of a task is known here once a worker has put it aside, so that a type nobody
        handles counts when somebody serves its queue, and all of a queue when nobody does.
        """
        types = {name: n for name, n in survey.held.items() if name not in self._queues_of}
        is_served = self._queues.intersection
        queues = {name: n for name, n in survey.waiting.items() if not is_served((name, _EVERY))}
        number = sum(types.values()) + sum(queues.values())
        return NoWorker(number, _most(types), _most(queues))


def _most(numbers: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(sorted(numbers, key=lambda name: (-numbers[name], name))[:MAX_NAMED])
