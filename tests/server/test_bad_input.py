"""Requests that break a rule: refused with field and rule, and nothing is stored."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from taskqueue_core.broker import Broker

pytestmark = pytest.mark.anyio

_JSON = {"content-type": "application/json"}
_TOO_LATE = (datetime.now(UTC) + timedelta(days=366)).isoformat()


@pytest.fixture
async def refusing(client: httpx.AsyncClient, broker: Broker) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client, and check that the test has left no task behind."""
    yield client
    keys = broker.partitions[0]
    stored = [key async for key in broker.redis.scan_iter(f"{keys.prefix}[tbrqe]*")]
    assert stored == []


#: The fields of a submission -> the field that is refused, and a part of the rule.
FIELDS: list[tuple[dict[str, Any], str, str]] = [
    ({}, "type", "is required"),
    ({"type": None}, "type", "not of type"),
    ({"type": 5}, "type", "not of type"),
    ({"type": ""}, "type", "does not match"),
    ({"type": "a b"}, "type", "does not match"),
    ({"type": "a\n"}, "type", "does not match"),
    ({"type": "a:b"}, "type", "does not match"),
    ({"type": "1a"}, "type", "does not match"),
    ({"type": "ä"}, "type", "does not match"),
    ({"type": "a" * 65}, "type", ""),
    ({"queue": "a/b"}, "queue", "does not match"),
    ({"queue": ""}, "queue", "does not match"),
    ({"queue": ["a"]}, "queue", "not of type"),
    ({"priority": 4}, "priority", "maximum of 3"),
    ({"priority": 9}, "priority", "maximum of 3"),
    ({"priority": -1}, "priority", "minimum of 0"),
    ({"priority": True}, "priority", "not of type"),
    ({"priority": 1.5}, "priority", "not of type"),
    ({"priority": 2.0}, "priority", "not of type"),
    ({"priority": "high"}, "priority", "not of type"),
    ({"priority": 2**70}, "priority", "maximum of 3"),
    ({"max_retries": -1}, "max_retries", "minimum of 0"),
    ({"max_retries": 101}, "max_retries", "maximum of 100"),
    ({"max_retries": False}, "max_retries", "not of type"),
    ({"timeout": -1}, "timeout", "minimum of 1"),
    ({"timeout": 0}, "timeout", "minimum of 1"),
    ({"timeout": 86401}, "timeout", "maximum of 86400"),
    ({"timeout": "30s"}, "timeout", "not of type"),
    ({"payload": []}, "payload", "not of type"),
    ({"payload": "x"}, "payload", "not of type"),
    ({"metadata": {"a": 1}}, "metadata/a", "not of type"),
    ({"metadata": {"a": None}}, "metadata/a", "not of type"),
    ({"metadata": {"a": "x" * 257}}, "metadata/a", "longer than 256"),
    ({"metadata": {str(n): "" for n in range(33)}}, "metadata", "more than 32"),
    ({"metadata": []}, "metadata", "not of type"),
    ({"scheduled_at": "2026-01-15T12:00:00"}, "scheduled_at", "with a zone"),
    ({"scheduled_at": "2026-01-15"}, "scheduled_at", "with a zone"),
    ({"scheduled_at": "soon"}, "scheduled_at", "with a zone"),
    ({"scheduled_at": "20260115T120000Z"}, "scheduled_at", "with a zone"),
    ({"scheduled_at": "2026-02-30T12:00:00Z"}, "scheduled_at", "with a zone"),
    ({"scheduled_at": "2016-12-31T23:59:60Z"}, "scheduled_at", ""),
    ({"scheduled_at": "0000-01-01T00:00:00Z"}, "scheduled_at", ""),
    ({"scheduled_at": "0001-01-01T00:00:00+23:59"}, "scheduled_at", "years 1 to 9999"),
    ({"scheduled_at": _TOO_LATE}, "scheduled_at", "within 365 days"),
    ({"scheduled_at": "9999-12-31T23:59:59-23:59"}, "scheduled_at", "years 1 to 9999"),
    ({"scheduled_at": 1768478400}, "scheduled_at", "not of type"),
    ({"state": "completed"}, "state", "not a field of the contract"),
    ({"id": "1"}, "id", "not a field of the contract"),
    ({"Priority": 1}, "Priority", "not a field of the contract"),
]


@pytest.mark.parametrize(("fields", "field", "rule"), FIELDS)
async def test_fields(
    refusing: httpx.AsyncClient, fields: dict[str, Any], field: str, rule: str
) -> None:
    """The answer names the field and the rule."""
    body = fields if "type" in fields or not fields else {"type": "echo", **fields}
    response = await refusing.post("/api/v1/tasks", json=body)
    assert response.status_code == 400
    problem = response.json()
    assert (problem["error"], problem["field"]) == ("Bad Request", field)
    assert problem["message"].startswith(f"{field}: ")
    assert rule in problem["message"]


#: Bodies that are no JSON objects, or whose payload could not come back as it was sent.
BODIES: list[tuple[str, bytes, str]] = [
    ("empty", b" ", "JSON"),
    ("cut", b'{"type":"echo"', "ends too early"),
    ("trailing", b'{"type":"echo"} x', "trailing"),
    ("array", b"[]", "object"),
    ("null", b"null", "object"),
    ("string", b'"echo"', "object"),
    ("bom", b'\xef\xbb\xbf{"type":"echo"}', "JSON"),
    ("utf-16", '{"type":"echo"}'.encode("utf-16"), "JSON"),
    ("invalid utf-8", b'{"type":"echo","payload":{"a":"\xff"}}', "JSON"),
    ("nan", b'{"type":"echo","payload":{"a":NaN}}', "JSON"),
    ("infinity", b'{"type":"echo","payload":{"a":-Infinity}}', "JSON"),
    ("1e999", b'{"type":"echo","payload":{"a":1e999}}', "range"),
    ("5000 digits", b'{"type":"echo","payload":{"a":' + b"1" * 5000 + b"}}", "range"),
    ("surrogate", b'{"type":"echo","payload":{"a":"\\ud800"}}', "surrogate"),
    ("surrogate key", b'{"type":"echo","payload":{"\\udc00":1}}', "surrogate"),
    ("control", b'{"type":"echo","payload":{"a":"\x01"}}', "JSON"),
    ("comment", b'{"type":"echo"/**/}', "JSON"),
    ("single quotes", b"{'type':'echo'}", "JSON"),
    ("twice", b'{"type":"echo","type":"echo"}', 'uplicate key "type"'),
    ("twice, escaped", b'{"type":"echo","payload":{"a":1,"\\u0061":2}}', 'uplicate key "a"'),
    ("deep", b'{"type":"echo","payload":{"a":' + b"[" * 201 + b"]" * 201 + b"}}", "deeper"),
    ("bottomless", b'{"type":"echo","payload":' + b'{"a":' * 100_000, "deeper"),
]


@pytest.mark.parametrize(("body", "rule"), [row[1:] for row in BODIES], ids=[r[0] for r in BODIES])
async def test_bodies(refusing: httpx.AsyncClient, body: bytes, rule: str) -> None:
    """What is no JSON object of the contract is refused with the reason."""
    response = await refusing.post("/api/v1/tasks", content=body, headers=_JSON)
    assert response.status_code == 400
    assert response.json()["field"] == "body"
    assert rule in response.json()["message"]
    assert len(response.content) < 2_000


@pytest.mark.parametrize("path", ["/api/v1/tasks", "/admin/dlq/retry"])
async def test_missing_body(refusing: httpx.AsyncClient, path: str) -> None:
    """Nothing at all is told apart from a wrong type."""
    response = await refusing.post(path)
    assert (response.status_code, response.json()["field"]) == (400, "body")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": "application/jsonx"},
        {"content-type": "application/problem+json"},
        {"content-type": ""},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
async def test_media_types(refusing: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """A body that is not declared as plain JSON is refused unread."""
    body = b'{"type":"echo"}'
    response = await refusing.post("/api/v1/tasks", content=body, headers=headers)
    assert (response.status_code, response.json()["error"]) == (415, "Unsupported Media Type")


async def test_large_body(refusing: httpx.AsyncClient) -> None:
    """A body over the limit is refused, with its length declared or in chunks."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b" " * 65_536

    declared = await refusing.post("/api/v1/tasks", content=b" " * 1_048_577, headers=_JSON)
    chunked = await refusing.post("/api/v1/tasks", content=chunks(), headers=_JSON)
    assert (declared.status_code, chunked.status_code) == (413, 413)
    assert "1048576 bytes" in declared.json()["message"]


async def test_body_of_exactly_the_limit(client: httpx.AsyncClient) -> None:
    """The limit itself is allowed."""
    head, tail = b'{"type":"echo","payload":{"a":"', b'"}}'
    body = head + b"x" * (1_048_576 - len(head) - len(tail)) + tail
    response = await client.post("/api/v1/tasks", content=body, headers=_JSON)
    assert response.status_code == 201


@pytest.mark.usefixtures("worker")
async def test_deepest_payload(client: httpx.AsyncClient) -> None:
    """What is accepted can be read again."""
    body = b'{"type":"echo","payload":{"a":' + b"[" * 198 + b"]" * 198 + b"}}"
    response = await client.post("/api/v1/tasks", content=body, headers=_JSON)
    assert response.status_code == 201
    assert (await client.get(response.headers["location"])).content == response.content


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("x=1", "x"),
        ("x", "x"),
        ("%00=1", "\x00"),
        ("a%ff=1", "query"),
        ("%C3%A9=1", "é"),
        ("&".join(f"a{n}=" for n in range(200)), "query"),
    ],
)
async def test_query(refusing: httpx.AsyncClient, query: str, field: str) -> None:
    """Parameters that the operation does not have are refused, in every operation alike."""
    for method, path in [("POST", "/api/v1/tasks"), ("GET", "/health"), ("DELETE", "/admin/dlq")]:
        url = httpx.URL("http://test" + path).copy_with(
            raw_path=f"{path}?{query}".encode("latin-1")
        )
        response = await refusing.request(method, url, content=b'{"type":"echo"}', headers=_JSON)
        assert (response.status_code, response.json()["field"]) == (400, field)


@pytest.mark.parametrize("query", ["token=a&token=b", "token=" + "x" * 4097])
async def test_known_parameter(client: httpx.AsyncClient, query: str) -> None:
    """A parameter is given once, and keeps to its own rules."""
    response = await client.get(f"/ws?{query}")
    assert (response.status_code, response.json()["field"]) == (400, "token")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "body: must be either task_id"),
        ({"retry_all": False}, "retry_all: must be one of true"),
        ({"retry_all": None}, "retry_all: null is not"),
        ({"retry_all": 1}, "retry_all: 1 is not"),
        ({"task_id": None}, "task_id: null is not"),
        ({"task_id": 1}, "task_id: 1 is not"),
        ({"task_id": "x", "retry_all": True}, "body: must be either task_id"),
        ({"retry_all": True, "message_id": "1-1"}, "body: must be either task_id"),
        ({"message_id": "1-1"}, "body: must be either task_id"),
        ({"retry_all": True, "more": 1}, "body: must be either task_id"),
        ([], "body: must be either task_id"),
    ],
)
async def test_dead_letter_retry(refusing: httpx.AsyncClient, body: Any, message: str) -> None:
    """A form that is nearly met names its field; without one the sentence names the forms."""
    response = await refusing.post("/admin/dlq/retry", json=body)
    assert response.status_code == 400
    assert response.json()["message"].startswith(message)


async def test_long_values_are_cut_in_messages(refusing: httpx.AsyncClient) -> None:
    """A message does not send a large value back."""
    body = json.dumps({"type": "x" * 100_000, "y" * 100_000: 1})
    response = await refusing.post("/api/v1/tasks", content=body, headers=_JSON)
    assert response.status_code == 400
    assert len(response.content) < 2_000
