"""What the operations of one server process share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from taskqueue_core.broker import Broker
from taskqueue_core.settings import Settings
from taskqueue_server.catalog import HandlerCatalog
from taskqueue_server.health import Health
from taskqueue_server.hub import Hub
from taskqueue_server.metrics import ServerMetrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """One per application. ``now_ms`` is the wall clock, for limits only: Redis keeps the time."""

    settings: Settings
    broker: Broker
    catalog: HandlerCatalog
    metrics: ServerMetrics
    hub: Hub
    health: Health
    now_ms: Callable[[], int]
