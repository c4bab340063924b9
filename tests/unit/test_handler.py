"""Handlers: what may be decorated, and what an annotation does to a payload."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired, TypedDict

import msgspec
import pydantic
import pytest

from taskqueue_core.errors import PluginError
from taskqueue_core.models import HandlerInfo
from taskqueue_core.plugin import (
    Handler,
    InvalidPayload,
    NonRetryable,
    TaskContext,
    handler,
)
from taskqueue_core.retry import RetryPolicy


@dataclass
class Item:
    sku: str
    count: int = 1


@dataclass
class DataclassOrder:
    items: list[Item]


class StructOrder(msgspec.Struct):
    items: list[Item]


class TypedDictOrder(TypedDict):
    items: list[Item]
    note: NotRequired[str]


class PydanticItem(pydantic.BaseModel):
    sku: str
    count: int = 1


class PydanticOrder(pydantic.BaseModel):
    items: list[PydanticItem]


@pydantic.dataclasses.dataclass
class PydanticDataclassOrder:
    items: list[PydanticItem]


TYPED = [DataclassOrder, StructOrder, TypedDictOrder, PydanticOrder, PydanticDataclassOrder]
CTX = TaskContext(id="1", type="order")


def handler_for(annotation: Any) -> Handler:
    """Make a handler whose payload carries the annotation itself, or none for ``None``."""

    def run(ctx: TaskContext, payload: Any) -> None: ...

    if annotation is None:
        del run.__annotations__["payload"]
    else:
        run.__annotations__["payload"] = annotation
    return handler("order")(run)


def test_coroutine_function_becomes_async_handler() -> None:
    """A coroutine function runs on the loop, with the options it was given."""
    retry = RetryPolicy(max_retries=5)

    @handler("email", timeout=30, queue="mail", retry=retry)
    async def send(ctx: TaskContext, payload: dict[str, Any]) -> None: ...

    assert (send.task_type, send.executor, send.is_async) == ("email", "async", True)
    assert (send.timeout_seconds, send.queue, send.retry) == (30, "mail", retry)
    assert send.info(distribution="mailer", version="1.0") == HandlerInfo(
        queue="mail",
        timeout_seconds=30,
        max_retries=5,
        distribution="mailer",
        version="1.0",
        executor="async",
    )


def test_plain_function_becomes_thread_handler() -> None:
    """A plain function runs in a thread; without options the service's settings decide."""

    @handler("resize")
    def resize(ctx: TaskContext, payload: dict[str, Any]) -> str:
        return f"{ctx.id} {payload}"

    assert (resize.executor, resize.is_async) == ("thread", False)
    assert resize.info() == HandlerInfo(executor="thread")
    assert resize(CTX, {}) == "1 {}"


@pytest.mark.parametrize("is_async", [True, False])
def test_either_kind_of_function_may_have_a_process(is_async: bool) -> None:
    """Only its author can want one; the function stays what it is."""
    one = handler("risky", executor="process")(_coroutine if is_async else _plain)
    assert (one.executor, one.is_async) == ("process", is_async)


class Sender:
    async def send(self, ctx: TaskContext, payload: Any) -> None: ...

    async def __call__(self, ctx: TaskContext, payload: Any) -> None: ...


async def _three(extra: int, ctx: TaskContext, payload: Any) -> None: ...


@pytest.mark.parametrize("function", [Sender().send, Sender(), functools.partial(_three, 1)])
def test_methods_objects_and_partials_are_functions_too(function: Any) -> None:
    """What counts is the signature that is left, and whether a call makes a coroutine."""
    assert handler("send")(function).is_async


def test_plain_wrapper_of_coroutine_function_must_say_its_executor() -> None:
    """A wrapper may hand the coroutine on or run it: only its author knows."""

    async def run(ctx: TaskContext, payload: Any) -> None: ...

    @functools.wraps(run)
    def wrapper(ctx: TaskContext, payload: Any) -> Any:
        return run(ctx, payload)

    with pytest.raises(PluginError, match="say executor"):
        handler("wrapped")(wrapper)
    assert handler("wrapped", executor="async")(wrapper).is_async
    assert not handler("wrapped", executor="thread")(wrapper).is_async


def _plain(ctx: TaskContext, payload: Any) -> None: ...


async def _coroutine(ctx: TaskContext, payload: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (_plain, {"task_type": "1st"}, "'1st' is no task type"),
        (_plain, {"task_type": "a b"}, "'a b' is no task type"),
        (_plain, {"task_type": _plain}, "is no task type"),
        (_plain, {"queue": "no queue"}, "'no queue' is no queue name"),
        (_plain, {"timeout": 0}, "whole number of seconds >= 1, got 0"),
        (_plain, {"timeout": 1.5}, "whole number of seconds"),
        (_plain, {"timeout": True}, "whole number of seconds"),
        (_plain, {"retry": 3}, "retry is a RetryPolicy"),
        (_plain, {"executor": "async"}, "needs a function made with async def"),
        (_coroutine, {"executor": "thread"}, "needs a plain function"),
        (_plain, {"executor": "gpu"}, 'executor is "async", "thread" or "process"'),
    ],
)
def test_wrong_options_are_refused(function: Any, options: dict[str, Any], message: str) -> None:
    """A wrong option is an error when the function is decorated, and names it."""
    with pytest.raises(PluginError, match=message):
        handler(**{"task_type": "email", **options})(function)


def _generator(ctx: TaskContext, payload: Any) -> Any:
    yield payload


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda payload: payload, r"the signature is \(ctx, payload\), got \(payload\)"),
        (lambda ctx, payload, more=1: payload, "the signature is"),
        (lambda ctx, *, payload: payload, "the signature is"),
        (lambda *args: args, "the signature is"),
        (_generator, "cannot yield"),
        (Item, "a handler is a function"),
        ("text", "a handler is a function"),
    ],
)
def test_only_one_form_of_function_is_accepted(function: Any, message: str) -> None:
    """Anything but (ctx, payload) is refused when it is decorated."""
    with pytest.raises(PluginError, match=message):
        handler("email")(function)


def test_swapped_parameters_are_refused() -> None:
    """A first parameter that is annotated as something else is no context."""

    @handler("order")  # type: ignore[arg-type]
    def run(payload: StructOrder, ctx: Any) -> None: ...

    with pytest.raises(PluginError, match="the first parameter is a TaskContext, not StructOrder"):
        run.schema()


@pytest.mark.parametrize("annotation", [None, Any, object])
def test_anything_goes_without_an_annotation(annotation: Any) -> None:
    """No annotation, Any and object leave the payload as it came."""
    free = handler_for(annotation)
    assert free.decode([2**70]) == [2**70]
    assert free.schema() == {}


@pytest.mark.parametrize("annotation", [dict, dict[str, Any], dict[str, object]])
def test_dict_is_free_form(annotation: Any) -> None:
    """A dict is passed on untouched, integers beyond 64 bits included; nothing else is."""
    free = handler_for(annotation)
    payload = {"n": 2**70, "x": {"y": [None]}}
    assert free.decode(payload) is payload
    assert free.schema() == {"type": "object"}
    with pytest.raises(InvalidPayload, match="Expected `object`, got `list`"):
        free.decode([])


@pytest.mark.parametrize("annotation", TYPED)
def test_typed_payload_is_converted(annotation: Any) -> None:
    """A valid payload arrives as the annotated class, its defaults filled in."""
    order = handler_for(annotation).decode({"items": [{"sku": "a"}]})
    items = order["items"] if isinstance(order, dict) else order.items
    assert (items[0].sku, items[0].count) == ("a", 1)


@pytest.mark.parametrize("annotation", TYPED)
def test_wrong_payload_names_the_field(annotation: Any) -> None:
    """A wrong payload can never succeed, and the message holds the path of the field."""
    with pytest.raises(InvalidPayload, match=r"\$\.items\[1\]\.count") as caught:
        handler_for(annotation).decode({"items": [{"sku": "a"}, {"sku": "b", "count": "two"}]})
    assert isinstance(caught.value, NonRetryable)


@pytest.mark.parametrize("annotation", TYPED)
def test_schema_describes_the_payload(annotation: Any) -> None:
    """The JSON Schema of the annotation is an object with its fields."""
    schema = handler_for(annotation).schema()
    name = schema.get("$ref", "").rpartition("/")[2]
    top = schema["$defs"].get(name, schema)
    assert top["type"] == "object"
    assert "items" in top["properties"]
    assert top["required"] == ["items"]


def test_conversion_is_strict() -> None:
    """A text that looks like a number is no number."""
    with pytest.raises(InvalidPayload, match="Expected `int`, got `str`"):
        handler_for(DataclassOrder).decode({"items": [{"sku": "a", "count": "2"}]})


def test_number_of_further_problems_is_told() -> None:
    """Pydantic finds them all; the message shows the first and counts the rest."""
    with pytest.raises(InvalidPayload, match=r"at `\$\.items\[0\]\.sku` \(and 1 more\)"):
        handler_for(PydanticOrder).decode({"items": [{"count": "two"}]})


@pytest.mark.parametrize(
    "annotation", [list[int], int, Annotated[str, msgspec.Meta(max_length=3)], Sender]
)
def test_annotation_that_is_no_object_or_unknown_is_refused(annotation: Any) -> None:
    """A payload is a JSON object: another annotation could never be met."""
    with pytest.raises(PluginError, match=r'handler "order" \(.*annotations cannot be used'):
        handler_for(annotation).schema()


def test_class_defined_inside_a_function_is_found() -> None:
    """A string annotation may name a class that only the decorating function can see."""

    class Local(msgspec.Struct):
        n: int

    @handler("local")
    def run(ctx: TaskContext, payload: Local) -> None: ...

    assert run.decode({"n": 1}) == Local(n=1)


@handler("later")
def later(
    ctx: TaskContext,
    payload: Later,
) -> Unknown: ...  # type: ignore[name-defined]  # noqa: F821 - as behind TYPE_CHECKING


class Later(msgspec.Struct):
    n: int


def test_class_defined_later_is_found() -> None:
    """A name may be defined after the handler; the return annotation is never looked at."""
    assert later.decode({"n": 1}) == Later(n=1)


def test_unknown_annotation_is_a_clear_error() -> None:
    """A name that never appears is an error of the plugin, with the handler and the name."""

    @handler("missing")
    def run(
        ctx: TaskContext,
        payload: Nowhere,  # type: ignore[name-defined]  # noqa: F821 - what is tested
    ) -> None: ...

    with pytest.raises(PluginError, match=r'handler "missing" .*name \'Nowhere\' is not defined'):
        run.decode({})
