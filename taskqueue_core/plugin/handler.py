"""A handler: the function that runs the tasks of one type, and how it wants to be run.

Everything that can be wrong with one is found when it is decorated or, for an annotation that
names something defined later, when the plugin host loads it: never with the first task.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal

from taskqueue_core.errors import PluginError
from taskqueue_core.models import DEFAULT_QUEUE, NAME_PATTERN, HandlerInfo, is_name
from taskqueue_core.plugin.context import TaskContext
from taskqueue_core.plugin.payload import PayloadType, payload_type, result_schema
from taskqueue_core.plugin.schemas import HandlerSchemas
from taskqueue_core.retry import RetryPolicy

#: Where a handler runs: on the event loop, in a thread beside it, or in a process of its own.
Executor = Literal["async", "thread", "process"]

HandlerFunction = Callable[[TaskContext, Any], Any]

#: What evaluating an annotation raises when a name in it is not there (yet).
_UNRESOLVED: Final = (NameError, AttributeError, TypeError, SyntaxError)


@dataclass(frozen=True, kw_only=True, eq=False)
class Handler:
    """A function, its task type and its options; made by ``handler``, found by the plugin host.

    ``timeout_seconds`` and ``retry`` are ``None`` where the service's settings decide. Calling a
    handler calls its function, unchecked: that is for tests.
    """

    task_type: str
    function: HandlerFunction
    executor: Executor
    timeout_seconds: int | None = None
    queue: str = DEFAULT_QUEUE
    retry: RetryPolicy | None = None
    annotations: Mapping[str, Any] = field(default_factory=dict, repr=False)
    returns: Any = field(default=None, repr=False)

    def __call__(self, ctx: TaskContext, payload: Any) -> Any:
        return self.function(ctx, payload)

    @property
    def is_async(self) -> bool:
        """Tell whether the function returns a coroutine."""
        return self.executor == "async" or (
            self.executor == "process" and _is_coroutine_function(self.function)
        )

    def decode(self, payload: Any) -> Any:
        """Turn a payload of JSON values into what the function expects.

        An exception other than these comes from a validator of the payload class itself.

        Raises:
            InvalidPayload: the payload does not fit the annotation.
            PluginError: the annotation cannot be used; the host found that out at load.
        """
        return self._payload.decode(payload)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the payload, ``{}`` where anything goes.

        Raises:
            PluginError: the annotation names something unknown or cannot be validated.
        """
        return self._payload.schema

    def schemas(self) -> HandlerSchemas:
        """Return what payload and result look like, as far as their annotations tell.

        Raises:
            PluginError: as ``schema`` does.
        """
        payload = self.schema()
        return HandlerSchemas(
            payload={} if payload == {"type": "object"} else payload,
            result=result_schema(_return_type(self.function, self.returns, None)),
        )

    def info(self, *, distribution: str = "", version: str = "", schemas: str = "") -> HandlerInfo:
        """Describe the handler for the worker's registration; ``schemas`` is their digest."""
        return HandlerInfo(
            queue=self.queue,
            timeout_seconds=self.timeout_seconds,
            max_retries=self.retry.max_retries if self.retry else None,
            distribution=distribution,
            version=version,
            executor=self.executor,
            schemas=schemas,
        )

    @cached_property
    def _payload(self) -> PayloadType:
        try:
            return _checked_payload(_evaluate(self.function, self.annotations, None))
        except Exception as error:
            # Building a schema runs code of the payload class: any exception may come out.
            where = _describe(self.task_type, self.function)
            problem = f"{type(error).__name__}: {error}"
            raise PluginError(f"{where}: its annotations cannot be used: {problem}") from error


def handler(
    task_type: str,
    *,
    timeout: int | None = None,
    queue: str = DEFAULT_QUEUE,
    retry: RetryPolicy | None = None,
    executor: Executor | None = None,
) -> Callable[[HandlerFunction], Handler]:
    """Make a function ``(ctx, payload)`` the handler of a task type.

    A coroutine function runs on the event loop ("async"), a plain one in a thread ("thread").
    Either runs in a child process when ``executor`` is "process": it is killed at its timeout.
    The annotation of ``payload`` is what payloads are validated against: a dataclass, msgspec
    struct, TypedDict or pydantic model; ``dict``, ``Any`` or nothing take any object.

    Args:
        timeout: seconds (>= 1) one attempt may take, unless the task itself says.
        queue: the queue of tasks that are submitted without one.

    Raises:
        PluginError: a name or option is not allowed, or the function has another signature.
    """

    def decorate(function: HandlerFunction) -> Handler:
        where = _describe(task_type, function)
        _check_options(where, timeout=timeout, queue=queue, retry=retry)
        raw = _raw_annotations(where, function)
        frame = inspect.currentframe()
        # Classes defined inside a function are visible only now, in the caller's frame.
        names = frame.f_back.f_locals if frame and frame.f_back else None
        try:
            annotations = _evaluate(function, raw, names)
        except _UNRESOLVED:
            annotations = raw
        return Handler(
            task_type=task_type,
            function=function,
            executor=_choose_executor(where, function, executor),
            timeout_seconds=timeout,
            queue=queue,
            retry=retry,
            annotations=annotations,
            returns=_return_type(function, inspect.signature(function).return_annotation, names),
        )

    if not isinstance(task_type, str) or not is_name(task_type):
        raise PluginError(f"{task_type!r} is no task type: it must match {NAME_PATTERN}")
    return decorate


def _checked_payload(hints: Mapping[str, Any]) -> PayloadType:
    context = hints.get("ctx", TaskContext)
    if isinstance(context, type) and not issubclass(TaskContext, context):
        raise TypeError(f"the first parameter is a TaskContext, not {context.__name__}")
    return payload_type(hints.get("payload", Any))


def _describe(task_type: str, function: object) -> str:
    name = getattr(function, "__qualname__", repr(function))
    return f'handler "{task_type}" ({getattr(function, "__module__", "?")}.{name})'


def _check_options(where: str, *, timeout: object, queue: object, retry: object) -> None:
    if timeout is not None and (type(timeout) is not int or timeout < 1):
        raise PluginError(f"{where}: timeout is a whole number of seconds >= 1, got {timeout!r}")
    if not isinstance(queue, str) or not is_name(queue):
        raise PluginError(f"{where}: {queue!r} is no queue name: it must match {NAME_PATTERN}")
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise PluginError(f"{where}: retry is a RetryPolicy, got {retry!r}")


def _choose_executor(where: str, function: HandlerFunction, wanted: str | None) -> Executor:
    is_async = _is_coroutine_function(function)
    if not is_async and _is_coroutine_function(inspect.unwrap(function)):
        # A plain wrapper around a coroutine function may hand the coroutine on or run it itself.
        if wanted is None:
            raise PluginError(f'{where}: wrapped by a plain function: say executor="async|thread"')
        is_async = wanted == "async"
    match wanted, is_async:
        case (None | "async", True):
            return "async"
        case (None | "thread", False):
            return "thread"
        case ("async", False):
            raise PluginError(f'{where}: executor "async" needs a function made with async def')
        case ("thread", True):
            raise PluginError(f'{where}: executor "thread" needs a plain function, not async def')
        case ("process", _):
            return "process"
    raise PluginError(f'{where}: executor is "async", "thread" or "process", got {wanted!r}')


def _is_coroutine_function(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        type(function).__call__
    )


def _raw_annotations(where: str, function: HandlerFunction) -> dict[str, Any]:
    """Return the annotations of the two parameters, as ``ctx`` and ``payload``, where present."""
    if not callable(function) or inspect.isclass(function):
        raise PluginError(f"{where}: a handler is a function, got {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise PluginError(f"{where}: a handler returns its result, it cannot yield")
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if len(parameters) != 2 or any(one.kind not in positional for one in parameters):
        raise PluginError(f"{where}: the signature is (ctx, payload), got {signature}")
    annotations = zip(("ctx", "payload"), (one.annotation for one in parameters), strict=True)
    return {name: value for name, value in annotations if value is not inspect.Parameter.empty}


def _origin(function: HandlerFunction) -> Callable[..., Any]:
    """Return the function behind a partial, a wrapper or a callable object."""
    origin: Any = function
    while isinstance(origin, functools.partial):
        origin = origin.func
    origin = inspect.unwrap(origin)
    return typing.cast(
        "Callable[..., Any]",
        origin if hasattr(origin, "__globals__") else type(origin).__call__,
    )


def _evaluate(
    function: HandlerFunction, annotations: Mapping[str, Any], names: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Replace string annotations by what they name in the function's module, or in ``names``.

    Only these are looked at: another one may name something that exists for type checkers alone.
    """

    def stand_in() -> None: ...

    stand_in.__annotations__ = dict(annotations)
    module = getattr(_origin(function), "__globals__", {})
    return typing.get_type_hints(stand_in, module, names, include_extras=True)


def _return_type(
    function: HandlerFunction, annotation: Any, names: Mapping[str, Any] | None
) -> Any:
    """Evaluate the return annotation if that can be done; as a text it tells nothing."""
    try:
        return _evaluate(function, {"result": annotation}, names)["result"]
    except Exception:  # noqa: BLE001 (evaluating runs a plugin's code, and nothing depends on it)
        return annotation
