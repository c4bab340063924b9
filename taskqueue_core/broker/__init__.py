"""All of Redis: one method and one Lua script for every change of a task's state."""

from __future__ import annotations

from taskqueue_core.broker.access import ApiKeys, StoredKey, key_id
from taskqueue_core.broker.admission import Admission, Verdict
from taskqueue_core.broker.broker import Broker
from taskqueue_core.broker.clients import Client, close_redis, configured_url, open_redis
from taskqueue_core.broker.connection import connect, located, open_broker, with_url
from taskqueue_core.broker.dead_letters import (
    DeadLetterFilter,
    DeadLetterGroup,
    DeadLetterGroups,
    DeadLetterPage,
    DeadLetters,
)
from taskqueue_core.broker.feed import EventFeed
from taskqueue_core.broker.history import EventHistory, Page
from taskqueue_core.broker.idempotency import IdempotencyKey
from taskqueue_core.broker.inspection import Inspection
from taskqueue_core.broker.intake import BATCH
from taskqueue_core.broker.search import Found, Search, TaskPage, TaskQuery
from taskqueue_core.broker.sessions import Beat, Recovered, WorkerSession

__all__ = [
    "Admission",
    "ApiKeys",
    "BATCH",
    "Beat",
    "Broker",
    "Client",
    "DeadLetterFilter",
    "DeadLetterGroup",
    "DeadLetterGroups",
    "DeadLetterPage",
    "DeadLetters",
    "EventFeed",
    "EventHistory",
    "Found",
    "IdempotencyKey",
    "Inspection",
    "Page",
    "Recovered",
    "Search",
    "StoredKey",
    "TaskPage",
    "TaskQuery",
    "Verdict",
    "WorkerSession",
    "close_redis",
    "configured_url",
    "connect",
    "key_id",
    "located",
    "open_broker",
    "open_redis",
    "with_url",
]
