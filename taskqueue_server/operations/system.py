"""Operations of the tag ``system``."""

from __future__ import annotations

import asyncio
from typing import Final

from taskqueue_core.broker import Broker
from taskqueue_core.errors import BrokerError
from taskqueue_server.ending import end_tasks
from taskqueue_server.messages import Request, Response
from taskqueue_server.metrics import CONTENT_TYPE
from taskqueue_server.representations import to_json
from taskqueue_server.services import Services

#: Longer than a healthy broker takes, shorter than the patience of those who probe.
_PROBE_SECONDS: Final = 2.0


async def _answers(broker: Broker) -> bool:
    ping = asyncio.create_task(broker.ping())
    done, _ = await asyncio.wait([ping], timeout=_PROBE_SECONDS)
    if not done:
        await end_tasks(ping)
        return False
    return not isinstance(ping.exception(), BrokerError) and ping.result() is None


class SystemOperations:
    """Health and metrics."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def health_check(self, _request: Request) -> Response:
        """Tell whether the broker answers, in a time that probes allow."""
        if not await _answers(self._services.broker):
            error = "the broker cannot be reached"
            body = {"status": "unhealthy", "redis": "disconnected", "error": error}
            return Response(body=to_json(body), status=503, headers=((b"retry-after", b"1"),))
        return Response(body=to_json({"status": "healthy", "redis": "connected"}))

    async def get_liveness(self, _request: Request) -> Response:
        """Tell that this process answers."""
        return Response(body=to_json({"status": "alive"}))

    async def get_metrics(self, _request: Request) -> Response:
        """Answer with all metrics as Prometheus reads them."""
        text = await self._services.metrics.render(self._services.broker.inspection)
        return Response(body=text, content_type=CONTENT_TYPE)
