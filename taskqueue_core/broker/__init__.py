"""All of Redis: one method and one Lua script for every change of a task's state."""

from __future__ import annotations

from taskqueue_core.broker.broker import Broker
from taskqueue_core.broker.clients import Client, close_redis, configured_url, open_redis
from taskqueue_core.broker.connection import connect, located, open_broker, with_url
from taskqueue_core.broker.feed import EventFeed
from taskqueue_core.broker.inspection import Inspection
from taskqueue_core.broker.intake import BATCH
from taskqueue_core.broker.sessions import Beat, Recovered, WorkerSession

__all__ = [
    "BATCH",
    "Beat",
    "Broker",
    "Client",
    "EventFeed",
    "Inspection",
    "Recovered",
    "WorkerSession",
    "close_redis",
    "configured_url",
    "connect",
    "located",
    "open_broker",
    "open_redis",
    "with_url",
]
