"""The rate limit: who is counted as one client, what the headers say, and who is refused."""

from __future__ import annotations

import time
from functools import partial
from typing import Final

import structlog

from taskqueue_core.broker import Admission, Verdict
from taskqueue_core.errors import BrokerError
from taskqueue_server.messages import (
    ANSWER_HEADERS,
    IDEMPOTENCY_KEY,
    AsgiApp,
    Headers,
    Receive,
    Scope,
    Send,
    find_header,
)
from taskqueue_server.principal import NOBODY, PRINCIPAL
from taskqueue_server.problems import ProblemError, too_many_requests

#: Where a refusal waits until it is known whether the request is a repeat, which is let through.
REFUSAL: Final = "taskqueue.refusal"
#: Where the seconds are that a request has waited for a broker which did not answer.
WAITED: Final = "taskqueue.waited"
#: Where operations find a way to charge what a request turns out to weigh.
CHARGE: Final = "taskqueue.charge"

_KEY: Final = IDEMPOTENCY_KEY.lower().encode()
_log = structlog.get_logger(__name__)


def client_of(scope: Scope) -> str:
    """Return the name under which the sender of a request is counted.

    Whoever showed a credential is counted by that, others by the address of their connection. What
    a header says about it counts for nothing: anybody can write one.
    """
    principal = scope.get(PRINCIPAL, NOBODY)
    if principal.name:
        return str(principal.name)
    peer = scope.get("client")
    return f"peer:{peer[0] if peer else ''}"


class RateLimit:
    """Counts requests against ``queue.ratelimitrps``, all server processes together."""

    def __init__(self, admission: Admission, per_second: int) -> None:
        self._admission = admission
        self._per_second = per_second
        self._limit = b"%d" % per_second
        self._is_known = True

    async def charge(self, scope: Scope, weight: int = 1, *, paid: int = 0) -> ProblemError | None:
        """Count a request and say so in its answer; return the refusal if it comes too fast.

        While the broker does not answer nothing is refused here: the operation will say so.
        """
        started = time.monotonic()
        try:
            verdict = await self._admission.take(client_of(scope), weight, paid=paid)
        except BrokerError as error:
            if self._is_known:
                _log.warning("the rate limit is not in force", error=str(error))
            self._is_known = False
            scope[WAITED] = time.monotonic() - started
            return None
        self._is_known = True
        scope[ANSWER_HEADERS] = self._headers(verdict)
        if not verdict.wait_ms:
            return None
        return too_many_requests(self._per_second, weight, _seconds(verdict.wait_ms))

    def _headers(self, verdict: Verdict) -> Headers:
        return (
            (b"ratelimit-limit", self._limit),
            (b"ratelimit-remaining", b"%d" % verdict.remaining),
            (b"ratelimit-reset", b"%d" % _seconds(verdict.whole_in_ms)),
        )


def _seconds(milliseconds: int) -> int:
    return -(-milliseconds // 1000)


class LimitedOperation:
    """Counts the requests of one operation before anything of them is read."""

    def __init__(self, app: AsgiApp, limit: RateLimit, *, may_repeat: bool) -> None:
        self._app = app
        self._limit = limit
        self._may_repeat = may_repeat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or raise ``ProblemError`` (429).

        A request with an Idempotency-Key is let through with its refusal: the operation answers
        with what the request has made before, if it has.
        """
        refusal = await self._limit.charge(scope)
        if self._may_repeat:
            scope[CHARGE] = partial(self._limit.charge, scope, paid=1)
        if refusal is not None:
            if not self._may_repeat or find_header(scope["headers"], _KEY) is None:
                raise refusal
            scope[REFUSAL] = refusal
        await self._app(scope, receive, send)
