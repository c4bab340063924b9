"""Both facades under one face: scenarios are written once, and block."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, cast

from anyio.from_thread import BlockingPortal, start_blocking_portal

from taskqueue_client import AsyncTaskQueueClient, TaskQueueClient

#: What returns a client, with the arguments of its class.
Connect = Callable[..., TaskQueueClient]
KINDS: Final = ("sync", "async")
_ASYNC: Final = AsyncTaskQueueClient.__module__.rpartition(".")[0]


class _Blocking:
    """An asynchronous object, every method of which blocks."""

    def __init__(self, portal: BlockingPortal, target: Any) -> None:
        self._portal = portal
        self._target = target

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not callable(value):
            return self._adapt(value)
        return lambda *args, **kwargs: self._adapt(value(*args, **kwargs))

    def __enter__(self) -> _Blocking:
        self._wait(self._target.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._wait(self._target.__aexit__(kind, error, traceback))

    def __iter__(self) -> _Blocking:
        return self

    def __next__(self) -> Any:
        try:
            return self._wait(self._target.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def _adapt(self, value: Any) -> Any:
        if isinstance(value, Awaitable):
            return self._wait(value)
        is_async = type(value).__module__.startswith(_ASYNC) or hasattr(value, "__anext__")
        return _Blocking(self._portal, value) if is_async else value

    def _wait(self, awaitable: Awaitable[Any]) -> Any:
        async def finish() -> Any:
            return await awaitable

        return self._portal.call(finish)


@contextmanager
def facade(kind: str) -> Iterator[Connect]:
    """Yield what makes clients of one kind."""
    if kind == "sync":
        yield TaskQueueClient
        return
    with start_blocking_portal() as portal:

        def connect(*args: Any, **kwargs: Any) -> TaskQueueClient:
            made = portal.call(lambda: AsyncTaskQueueClient(*args, **kwargs))
            return cast(TaskQueueClient, _Blocking(portal, made))

        yield connect
