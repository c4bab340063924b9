"""One server process as an ASGI application."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import structlog

from taskqueue_core.broker import Broker, configured_url, open_broker
from taskqueue_core.config import redact_url
from taskqueue_core.errors import BrokerError, SettingsError
from taskqueue_core.settings import Settings
from taskqueue_core.tracing import SERVER, exporting
from taskqueue_server.auth import Gate
from taskqueue_server.catalog import HandlerCatalog
from taskqueue_server.contract import BodyLimits, build_contract, check_table
from taskqueue_server.ending import end_tasks
from taskqueue_server.exposure import check_auth_settings
from taskqueue_server.guards import Guards
from taskqueue_server.health import Health
from taskqueue_server.hub import Hub
from taskqueue_server.messages import Receive, Scope, Send
from taskqueue_server.metrics import ServerMetrics
from taskqueue_server.operations import operation_table
from taskqueue_server.origins import Origins, with_cors
from taskqueue_server.rate_limit import RateLimit
from taskqueue_server.services import Services
from taskqueue_server.spec import fit_contract, load_contract, parameters_of, required_scopes
from taskqueue_server.validation import Parameters
from taskqueue_server.websocket import PATH as EVENTS_PATH
from taskqueue_server.websocket import EventsEndpoint, Handshakes

_RETRY_SECONDS = 1.0
_log = structlog.get_logger(__name__)


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class Application:
    """The API and the event stream of one process, over one broker."""

    def __init__(
        self, settings: Settings, broker: Broker, now_ms: Callable[[], int], **hub_options: Any
    ) -> None:
        self._broker = broker
        contract = load_contract()
        metrics = ServerMetrics()
        gate = Gate(settings, broker.api_keys, now_ms)
        scopes = required_scopes(contract)
        read = broker.inspection
        catalog = HandlerCatalog(settings, read.workers, read.handler_schemas, time.monotonic)
        self.hub = Hub(broker, now_ms, on_lag=metrics.note_event_lag, **hub_options)
        self.health = Health(
            broker, self.hub, time.monotonic, names_types=not settings.auth.enabled
        )
        broker.scripts.observe = metrics.observe_redis
        table = operation_table(
            Services(
                settings=settings,
                broker=broker,
                catalog=catalog,
                metrics=metrics,
                hub=self.hub,
                health=self.health,
                now_ms=now_ms,
            )
        )
        check_table(contract, table)
        api = build_contract(
            fit_contract(contract, settings),
            table,
            gate=gate,
            scopes=scopes,
            rate_limit=RateLimit(broker.admission, settings.queue.rate_limit_rps),
            limits=BodyLimits(
                max_bytes=settings.server.max_body_bytes,
                seconds=settings.server.read_timeout_seconds,
            ),
            lifespan=self._lifespan,
        )
        event_types = frozenset(contract["components"]["schemas"]["EventType"]["enum"])
        allowed = settings.server.cors_origins
        handshakes = Handshakes(
            parameters=Parameters(parameters_of(contract, EVENTS_PATH)),
            admit=partial(gate.admit, required=scopes["connect_websocket"] or ""),
            origins=Origins(allowed),
            partitions=len(broker.partitions),
            max_connections=settings.events.max_connections,
            max_connections_per_key=settings.events.max_connections_per_key,
        )
        self._events = EventsEndpoint(self.hub, metrics, event_types, now_ms, handshakes)
        self._api = api
        has_access_log = settings.server.access_log
        guards = Guards(
            api, metrics.observe_request, Origins(allowed), has_access_log=has_access_log
        )
        self._http = with_cors(guards, allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the life of the process."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._events(scope, receive, send)
        else:
            await self._api(scope, receive, send)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the broker prepared while the application serves.

        Without a broker it serves all the same, says so, and works as soon as there is one.
        """
        preparing = asyncio.create_task(self._prepare(), name="prepare-broker")
        try:
            yield
        finally:
            self.health.stop()
            await self.hub.close()
            await end_tasks(preparing)
            await self._broker.close()

    async def _prepare(self) -> None:
        told = ""
        while True:
            try:
                await self._broker.prepare()
            except BrokerError as error:
                if type(error).__name__ != told:
                    told = type(error).__name__
                    url = redact_url(configured_url(self._broker.settings))
                    _log.error("the broker cannot be used yet", redis=url, error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self.health.prepared()
                if told:
                    _log.info("the broker can be used now")
                return

    @asynccontextmanager
    async def _lifespan(self, _app: Any) -> AsyncIterator[None]:
        with exporting(SERVER, enabled=self._broker.settings.tracing.enabled):
            async with self.running():
                # What exists now stays: the collector need not look at it at every full collection.
                gc.collect()
                gc.freeze()
                gc.set_threshold(10_000, 10, 10)
                yield


def create_app(
    settings: Settings,
    *,
    broker: Broker | None = None,
    now_ms: Callable[[], int] = _wall_clock_ms,
    **hub_options: Any,
) -> Application:
    """Return the application for ``settings``; nothing is connected before its lifespan begins.

    ``hub_options`` are those of ``Hub``. The broker is closed with the application.

    Raises:
        SettingsError: no Redis is named (the command line finds or starts one and names it), or
            authentication is on without keys.
    """
    # Which address is listened on is the business of whoever runs the application.
    check_auth_settings(settings, is_open_on_purpose=True)
    if broker is None:
        if not configured_url(settings):
            raise SettingsError("redis.url is not set: start through taskqueue-server, or set it")
        broker = open_broker(settings)
    return Application(settings, broker, now_ms, **hub_options)
