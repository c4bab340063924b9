"""The contract at work: Connexion routes, authenticates and validates, the table answers.

Connexion registers every operation of the contract on each layer. Routing and validation are
lean subclasses of its layers: whatever depends on the contract only is prepared once, and a body
is parsed once. The application at the end of the chain looks the operation up in a table.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

from taskqueue_core.errors import BrokerUnavailableError
from taskqueue_server.auth import Gate
from taskqueue_server.ending import end_tasks
from taskqueue_server.framework import (
    ROUTING_CONTEXT,
    ConnexionMiddleware,
    LifespanMiddleware,
    RequestValidationAPI,
    RequestValidationMiddleware,
    Resolver,
    ResolverError,
    RoutingMiddleware,
    SecurityAPI,
    SecurityMiddleware,
)
from taskqueue_server.guards import TEMPLATE, ClientGoneError, has_body, read_body
from taskqueue_server.messages import (
    AsgiApp,
    Body,
    Operation,
    Receive,
    Request,
    Response,
    Scope,
    Send,
    find_traceparent,
    send_response,
)
from taskqueue_server.principal import NOBODY, PRINCIPAL
from taskqueue_server.problems import ProblemError, invalid
from taskqueue_server.rate_limit import CHARGE, REFUSAL, WAITED, LimitedOperation, RateLimit
from taskqueue_server.spec import limited_operations, operation_ids
from taskqueue_server.validation import (
    Parameters,
    SchemaValidator,
    check_media_type,
    parse_body,
)

_REQUEST: Final = "taskqueue.request"

#: How long the broker may take before the client is told to come again.
_ANSWER_SECONDS: Final = 2.0
#: Operations that go through any number of tasks in steps, or that have a limit of their own.
_PATIENT: Final = frozenset(
    {
        *("purge_queue", "retry_dead_letters", "clear_dead_letters"),
        *("health_check", "check_ready", "get_metrics"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyLimits:
    """How large a request body may be, and how long it may take."""

    max_bytes: int
    seconds: float


def build_contract(
    contract: dict[str, Any],
    table: Mapping[str, Operation],
    *,
    gate: Gate,
    scopes: Mapping[str, str | None],
    rate_limit: RateLimit,
    limits: BodyLimits,
    lifespan: Any,
) -> AsgiApp:
    """Return the ASGI application that fulfils ``contract`` with the operations of ``table``.

    ``scopes`` are those of ``required_scopes``.
    """
    app = ConnexionMiddleware(
        _Dispatcher(table),
        import_name=__name__,
        lifespan=lifespan,
        middlewares=[_Routing, _Security, _Validation, LifespanMiddleware],
    )
    app.add_api(
        contract,
        resolver=_TableResolver(table),
        entrance=_Entrance(gate, scopes, rate_limit, limited_operations(contract)),
        body_limits=limits,
    )
    return app  # type: ignore[no-any-return]  # connexion has no types


def check_table(contract: dict[str, Any], table: Mapping[str, Operation]) -> None:
    """Refuse to start unless the table has exactly the operations of the contract.

    Raises:
        RuntimeError: with the names that only one of them has.
    """
    difference = set(operation_ids(contract)) ^ set(table)
    if difference:
        raise RuntimeError(f"contract and operations differ in {', '.join(sorted(difference))}")


class _TableResolver(Resolver):  # type: ignore[misc]  # connexion has no types
    """Resolves operationIds to the operations of the table."""

    def __init__(self, table: Mapping[str, Operation]) -> None:
        super().__init__(table.__getitem__)

    def resolve_function_from_operation_id(self, operation_id: str) -> Operation:
        """Return the operation; an unknown name stops the start."""
        try:
            operation: Operation = self.function_resolver(operation_id)
        except KeyError:
            raise ResolverError(f"no operation is called {operation_id!r}") from None
        return operation


class _Dispatcher:
    """The end of the chain: calls the operation that routing found."""

    def __init__(self, table: Mapping[str, Operation]) -> None:
        self._table = table

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        operation_id = scope["extensions"][ROUTING_CONTEXT].get("operation_id")
        if operation_id is None:
            raise ProblemError(404, "not-found", "there is nothing at this path")
        operation, request = self._table[operation_id], scope[_REQUEST]
        if operation_id in _PATIENT:
            response = await operation(request)
        elif request.query.get("wait"):
            response = await _unless_gone(_in_time(operation, request, scope), receive)
        else:
            response = await _in_time(operation, request, scope)
        await send_response(send, response)


async def _in_time(operation: Operation, request: Request, scope: Scope) -> Response:
    seconds = _ANSWER_SECONDS + request.query.get("wait", 0.0) - scope.get(WAITED, 0.0)
    try:
        async with asyncio.timeout(seconds):
            return await operation(request)
    except TimeoutError as error:
        # What was asked for may happen all the same, as after any lost answer.
        raise BrokerUnavailableError(f"no answer within {seconds:g} s") from error


async def _unless_gone(answering: Coroutine[Any, Any, Response], receive: Receive) -> Response:
    """Return an answer that takes long; raise ClientGoneError when nobody is there to take it."""
    answer = asyncio.create_task(answering)
    gone = asyncio.create_task(_disconnection(receive))
    try:
        await asyncio.wait([answer, gone], return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientGoneError
        return answer.result()
    finally:
        await end_tasks(answer, gone)


async def _disconnection(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@dataclass(frozen=True, slots=True)
class _Route:
    """A path of the contract with its operations by method."""

    template: str
    pattern: re.Pattern[str]
    operations: dict[str, dict[str, str]]

    @property
    def allow(self) -> str:
        """Return the value of the Allow header."""
        return ", ".join(sorted({*self.operations, "OPTIONS"}))


class _Routing(RoutingMiddleware):  # type: ignore[misc]  # connexion has no types
    """Finds the operation in an index of Connexion's routes; its router takes no request."""

    def __init__(self, app: AsgiApp) -> None:
        super().__init__(app)
        self._static: dict[str, _Route] = {}
        self._templated: dict[int, list[_Route]] = {}

    def add_api(self, specification: Any, **options: Any) -> None:
        """Register the contract and index its routes."""
        super().add_api(specification, **options)
        for mount in self.router.routes:
            for route in mount.app.routes:
                self._index(mount.path, route)

    def _index(self, base_path: str, route: Any) -> None:
        known = self._find(base_path + route.path)
        if known is None or known.template != route.path:
            known = _Route(route.path, route.path_regex, {})
            if "{" in route.path:
                self._templated.setdefault(route.path.count("/"), []).append(known)
            else:
                self._static[route.path] = known
        info = {"api_base_path": base_path, "operation_id": route.endpoint.operation_id}
        for method in route.methods:
            known.operations[method] = info

    def _find(self, path: str) -> _Route | None:
        route = self._static.get(path)
        if route is not None:
            return route
        candidates = self._templated.get(path.count("/"), ())
        return next((item for item in candidates if item.pattern.match(path)), None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write operation and path parameters into the scope."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        route = self._find(scope["path"])
        extensions = scope.setdefault("extensions", {})
        if route is None:
            extensions[ROUTING_CONTEXT] = {}
        elif scope["method"] in route.operations:
            matched = route.pattern.match(scope["path"])
            scope["path_params"] = matched.groupdict() if matched else {}
            scope[TEMPLATE] = route.template
            extensions[ROUTING_CONTEXT] = route.operations[scope["method"]]
        else:
            await _refuse_method(scope, route, send)
            return
        await self.app(scope, receive, send)


async def _refuse_method(scope: Scope, route: _Route, send: Send) -> None:
    scope[TEMPLATE] = route.template
    allow = (b"allow", route.allow.encode())
    if scope["method"] != "OPTIONS":
        message = f"{scope['method'][:20]} is not allowed here; use {route.allow}"
        raise ProblemError(405, "method-not-allowed", message, headers=(allow,))
    await send_response(send, Response(body=b"", status=204, headers=(allow,)))


class _GuardedOperation:
    """Lets callers in to one operation, before anything of the request is looked at."""

    def __init__(self, app: AsgiApp, gate: Gate, required: str) -> None:
        self._app = app
        self._gate = gate
        self._required = required

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write the caller into the scope."""
        scope[PRINCIPAL] = await self._gate.admit(scope, self._required)
        await self._app(scope, receive, send)


@dataclass(frozen=True, slots=True)
class _Entrance:
    """Gate and rate limit, before every operation that the contract puts behind them."""

    gate: Gate
    scopes: Mapping[str, str | None]
    rate_limit: RateLimit
    limited: Mapping[str, bool]

    def guard(self, app: AsgiApp, operation_id: str) -> AsgiApp:
        """Return the operation behind what the contract wants there."""
        if operation_id in self.limited:
            may_repeat = self.limited[operation_id]
            app = LimitedOperation(app, self.rate_limit, may_repeat=may_repeat)
        required = self.scopes[operation_id]
        return app if required is None else _GuardedOperation(app, self.gate, required)


class _SecurityApi(SecurityAPI):  # type: ignore[misc]  # connexion has no types
    """Puts the entrance before every operation."""

    def __init__(self, *args: Any, entrance: _Entrance, **options: Any) -> None:
        self._entrance = entrance
        super().__init__(*args, **options)

    def make_operation(self, operation: Any) -> AsgiApp:
        """Return the entrance of one operation."""
        return self._entrance.guard(self.next_app, operation.operation_id)


class _Security(SecurityMiddleware):  # type: ignore[misc]  # connexion has no types
    """Connexion's security layer with our gate in it."""

    api_cls = _SecurityApi


class _ValidatedOperation:
    """Validates the requests of one operation and hands them on as ``Request`` values."""

    def __init__(self, app: AsgiApp, operation: Any, limits: BodyLimits) -> None:
        self._app = app
        self._limits = limits
        self._parameters = Parameters(operation.parameters)
        schema = operation.body_schema("application/json") if operation.request_body else None
        self._body = SchemaValidator(schema) if schema else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Validate one request; parameters first, as they cost nothing."""
        path = scope["path_params"]
        self._parameters.check_path(path)
        query = self._parameters.parse_query(scope)
        headers = self._parameters.parse_headers(scope)
        body = await self._read(self._body, scope, receive) if self._body else None
        scope[_REQUEST] = Request(
            path=path,
            query=query,
            headers=headers,
            body=body,
            principal=scope.get(PRINCIPAL, NOBODY),
            traceparent=find_traceparent(scope["headers"]) if self._body else "",
            refusal=scope.get(REFUSAL),
            **({"charge": scope[CHARGE]} if CHARGE in scope else {}),
        )
        await self._app(scope, receive, send)

    async def _read(self, validator: SchemaValidator, scope: Scope, receive: Receive) -> Body:
        if not has_body(scope):
            raise invalid("body", "a JSON object is required")
        check_media_type(scope["headers"])
        raw = await read_body(
            scope, receive, max_bytes=self._limits.max_bytes, seconds=self._limits.seconds
        )
        body = parse_body(raw)
        validator.check(body.values)
        return body


class _ValidationApi(RequestValidationAPI):  # type: ignore[misc]  # connexion has no types
    """Builds the validators of every operation, once."""

    def __init__(self, *args: Any, body_limits: BodyLimits, **options: Any) -> None:
        self._limits = body_limits
        super().__init__(*args, **options)

    def make_operation(self, operation: Any) -> _ValidatedOperation:
        """Return the validation of one operation."""
        return _ValidatedOperation(self.next_app, operation, self._limits)


class _Validation(RequestValidationMiddleware):  # type: ignore[misc]  # connexion has no types
    """Connexion's validation layer with our operations in it."""

    api_cls = _ValidationApi
