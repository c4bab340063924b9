"""Which events somebody gets: their types, one task, tasks of one owner; and from where on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from taskqueue_core.events import GAP, Cursor
from taskqueue_core.keys import parse_task_id, partition_of
from taskqueue_server.problems import invalid


class Describable(Protocol):
    """What is known of an event, wherever it is."""

    @property
    def type(self) -> str:
        """Return the name of its kind."""

    @property
    def task_id(self) -> str:
        """Return the task that it is about, "" for none."""

    @property
    def owner(self) -> str:
        """Return the owner of that task, "" for none."""

    @property
    def partition(self) -> int:
        """Return where it happened, -1 for something that is not in the stream."""


@dataclass(slots=True, kw_only=True)
class Selection:
    """Which events somebody gets.

    ``types`` are those that are wanted, ``None`` all of them; with ``task_id`` only what happens
    to that task, which is in ``partition``; with ``owner`` only what happens to its tasks. Gaps
    are told in any case, unless nothing of what is wanted can be in them.
    """

    types: frozenset[str] | None = None
    task_id: str = ""
    partition: int | None = None
    owner: str = ""

    @classmethod
    def parse(cls, query: Mapping[str, Any], *, owner: str) -> Selection:
        """Return what the query parameters ``events`` and ``task_id`` select.

        Raises:
            ProblemError: ``task_id`` is no id (400).
        """
        types = frozenset(query["events"]) if "events" in query else None
        if "task_id" not in query:
            return cls(types=types, owner=owner)
        task_id = parse_task_id(query["task_id"])
        if task_id is None:
            raise invalid("task_id", "is not the id of a task")
        partition = partition_of(task_id)
        return cls(types=types, task_id=task_id, partition=partition, owner=owner)

    @property
    def is_everything(self) -> bool:
        """Tell whether there is no event that is not wanted."""
        return self.types is None and not self.task_id and not self.owner

    def wants(self, event: Describable) -> bool:
        """Tell whether an event is one of them."""
        if event.type == GAP:
            return self.partition in (None, event.partition)
        if self.types is not None and event.type not in self.types:
            return False
        if self.task_id and event.task_id != self.task_id:
            return False
        return not self.owner or event.owner == self.owner


def parse_cursor(query: Mapping[str, Any], name: str, partitions: int) -> Cursor | None:
    """Return the place that a query parameter names, ``None`` without it.

    Raises:
        ProblemError: it is not the id of an event of this namespace (400).
    """
    if name not in query:
        return None
    try:
        return Cursor.parse(query[name], partitions)
    except ValueError as error:
        raise invalid(name, str(error)) from None
