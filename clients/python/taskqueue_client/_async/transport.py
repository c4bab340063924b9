"""Sends requests, again where that may help, and turns answers into values or errors."""

from __future__ import annotations

import random
from typing import Any, TypeVar

import httpx

from taskqueue_client._async_io import HttpClient, pause
from taskqueue_client._calls import Call
from taskqueue_client._connection import Connection, api_error
from taskqueue_client.errors import ApiError, UnexpectedAnswerError, UnreachableError

T = TypeVar("T")

#: Nothing of a request has been sent when one of these is raised.
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class AsyncTransport:
    """The HTTP side of a client."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._http = HttpClient(**connection.http_options())

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        """Return what the server answers.

        Raises:
            ApiError: the server refuses, and goes on to do so where another time may help.
            UnreachableError: it does not answer.
            UnexpectedAnswerError: the answer makes no sense.
        """
        policy, failures = self.connection.retry, 0
        while True:
            try:
                return await self._send_once(call)
            except (ApiError, UnreachableError) as error:
                failures += 1
                error.attempts = failures
                delay = policy.pause_seconds(
                    error,
                    failures,
                    is_repeatable=call.is_repeatable,
                    chance=random.random(),  # noqa: S311 -- spreads clients out, hides nothing
                )
                if delay is None:
                    raise
            await pause(delay)

    async def _send_once(self, call: Call[T]) -> T:
        timeout = self.connection.timeout_seconds + call.extra_seconds
        request = self._http.build_request(**call.request, timeout=timeout)
        request.headers.update(self.connection.credential())
        try:
            answer = await self._http.send(request)
        except httpx.TransportError as error:
            why = str(error) or type(error).__name__
            message = f"no answer from {self.connection.url.host}: {why}"
            raise UnreachableError(message, is_unsent=isinstance(error, _UNSENT)) from error
        except httpx.RequestError as error:
            raise UnexpectedAnswerError(f"the answer cannot be read: {error}") from error
        if not answer.is_success:
            raise api_error(
                answer.status_code, answer.reason_phrase, answer.headers, _body_of(answer)
            )
        try:
            return call.parse(answer.json())
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            where = f"{request.method} {request.url.path}"
            raise UnexpectedAnswerError(f"the answer to {where} makes no sense") from error


def _body_of(answer: httpx.Response) -> Any:
    """Return the body of an error, ``None`` where it is no JSON: a proxy may have made it."""
    try:
        return answer.json()
    except ValueError:
        return None
