"""What the watchdog goes by: a listener counts whatever comes back to it, errors too."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from taskqueue_core.broker import Broker, open_redis
from taskqueue_core.errors import BrokerUnavailableError
from taskqueue_core.settings import RedisSettings, Settings
from taskqueue_core.worker.control import Bell, Control

pytestmark = pytest.mark.anyio


async def test_an_error_is_an_answer(broker: Broker, settings: Settings) -> None:
    """A listener whose calls fail is not deaf: its connections need no closing."""
    nowhere = settings.model_copy(update={"redis": RedisSettings(url="redis://127.0.0.1:1")})
    redis = open_redis(nowhere)
    session = broker.session("w1", "i1")
    fetcher: Any = SimpleNamespace(went_dry=SimpleNamespace(wait=_at_once))
    for listener in (
        Control(redis, session, print),
        Bell(redis, session, fetcher, is_choosy=False),
    ):
        with pytest.raises(BrokerUnavailableError):
            await listener.run_once()
        assert listener.answers == 1
    await redis.aclose()


async def _at_once() -> None:
    pass
