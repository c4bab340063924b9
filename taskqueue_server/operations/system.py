"""Operations of the tag ``system``."""

from __future__ import annotations

from taskqueue_server.messages import Request, Response
from taskqueue_server.metrics import CONTENT_TYPE
from taskqueue_server.problems import not_ready
from taskqueue_server.representations import to_json
from taskqueue_server.services import Services


class SystemOperations:
    """Health and metrics."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def health_check(self, _request: Request) -> Response:
        """Tell whether the broker answers, and what is not as it should be."""
        checks = await self._services.health.checks()
        if checks is None:
            error = "the broker cannot be reached"
            body = {"status": "unhealthy", "redis": "disconnected", "error": error}
            return Response(body=to_json(body), status=503, headers=((b"retry-after", b"1"),))
        is_degraded = any(check["status"] != "ok" for check in checks.values())
        status = "degraded" if is_degraded else "healthy"
        return Response(body=to_json({"status": status, "redis": "connected", "checks": checks}))

    async def get_liveness(self, _request: Request) -> Response:
        """Tell that this process answers."""
        return Response(body=to_json({"status": "alive"}))

    async def check_live(self, request: Request) -> Response:
        """Tell that this process answers."""
        return await self.get_liveness(request)

    async def check_ready(self, _request: Request) -> Response:
        """Tell whether this process can do its work now, or why not."""
        obstacle = await self._services.health.obstacle()
        if obstacle:
            raise not_ready(obstacle)
        return Response(body=to_json({"status": "ready"}))

    async def get_metrics(self, _request: Request) -> Response:
        """Answer with all metrics as Prometheus reads them."""
        services = self._services
        text = await services.metrics.render(services.broker.inspection, services.hub.measure_lag)
        return Response(body=text, content_type=CONTENT_TYPE)
