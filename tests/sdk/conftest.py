"""Fixtures of the SDK tests: a live service with authentication, and clients of both kinds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blocking_facade import KINDS, Connect, facade
from live_service import API_KEY, LiveService

from taskqueue_client import TaskQueueClient


@pytest.fixture(scope="session")
def service(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """Yield a running service that asks for keys."""
    service = LiveService(redis_url, tmp_path_factory.mktemp("service"))
    yield service
    service.close()


@pytest.fixture(params=KINDS)
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Yield what makes clients: the blocking ones, then the asynchronous ones."""
    with facade(request.param) as made:
        yield made


@pytest.fixture
def client(connect: Connect, service: LiveService) -> Iterator[TaskQueueClient]:
    """Yield a client that may do everything."""
    with connect(service.url, api_key=API_KEY) as client:
        yield client
