"""Every operation of the contract against every kind of caller, and proof that a gap is noticed.

The cases are made from the contract, so that an operation that joins it is tried as well.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
from answers import operations
from checked import serve
from credentials import bearer, guarded, token

from taskqueue_core.broker import Broker, open_broker
from taskqueue_core.models import SCOPES
from taskqueue_core.settings import Settings
from taskqueue_server import app as application
from taskqueue_server.app import create_app
from taskqueue_server.spec import load_contract, required_scopes

pytestmark = pytest.mark.anyio

#: What probes of load balancers and orchestrators ask for; nothing else answers without a key.
OPEN = {"/health", "/health/live", "/health/ready", "/admin/health"}

Contract = dict[str, Any]
Headers = dict[str, str]


def open_paths(contract: Contract) -> set[str]:
    """Return the paths that the contract lets everybody use."""
    return {path for path, _, operation in operations(contract) if operation.get("security") == []}


class Callers:
    """Credentials of every kind; ``without`` a scope they have all the others but ``admin``."""

    def __init__(self) -> None:
        self._keys: dict[str, str] = {}

    async def prepare(self, broker: Broker) -> None:
        """Make the stored keys."""
        for scope in SCOPES:
            self._keys[scope], _ = await broker.api_keys.create([scope])
            others = set(SCOPES) - {scope, "admin"}
            self._keys["-" + scope], _ = await broker.api_keys.create(others)

    def refused(self, scope: str) -> list[tuple[str, Headers, int]]:
        """Return who must not pass where ``scope`` is needed: (name, headers, status)."""
        others = " ".join(set(SCOPES) - {scope, "admin"})
        return [
            ("nobody", {}, 401),
            ("a wrong key", {"X-API-Key": "wrong"}, 401),
            ("a wrong stored key", {"X-API-Key": self._keys[scope][:-1] + "~"}, 401),
            ("a forged token", bearer(token("x" * 32, scope="admin")), 401),
            ("an unsigned token", bearer(token("", algorithm="none", scope="admin")), 401),
            ("a key without the scope", {"X-API-Key": self._keys["-" + scope]}, 403),
            ("a token without the scope", bearer(token(scope=others)), 403),
            ("a token without scopes", bearer(token()), 403),
            ("an owner's admin", bearer(token(scope="admin", owner="acme")), 403),
        ]

    def admitted(self, scope: str) -> list[tuple[str, Headers]]:
        """Return who must pass where ``scope`` is needed: (name, headers)."""
        return [
            ("the scope's key", bearer(self._keys[scope])),
            ("an admin's key", {"X-API-Key": self._keys["admin"]}),
            ("a token with the scope", bearer(token(scope=[scope, "openid"]))),
            ("a key of the settings", {"X-API-Key": "first-key"}),
        ]


async def mistakes(http: httpx.AsyncClient, callers: Callers) -> list[str]:
    """Return what a server does otherwise than the contract says, a sentence for each."""
    found = []
    for path, method, operation in operations():
        scope = operation.get("x-required-scope")
        methods = [method, "head"] if method == "get" else [method]
        for verb in methods:
            url = re.sub(r"[{}]", "", path)
            if scope is None:
                if (await http.request(verb, url)).status_code in {401, 403}:
                    found.append(f"{verb} {path} is closed")
                continue
            for name, headers, status in callers.refused(scope):
                answer = await http.request(verb, url, headers=headers)
                if answer.status_code != status:
                    found.append(f"{verb} {path} answers {name} with {answer.status_code}")
            for name, headers in callers.admitted(scope):
                # The request is wrong on purpose: nothing is to happen.
                answer = await http.request(verb, f"{url}?no-such=1", headers=headers)
                if answer.status_code != 400:
                    found.append(f"{verb} {path} answers {name} with {answer.status_code}")
    return found


@pytest.fixture
async def callers(broker: Broker) -> Callers:
    """Return callers whose keys are stored."""
    made = Callers()
    await made.prepare(broker)
    return made


@pytest.fixture
async def start(
    settings: Settings, broker: Broker
) -> Callable[[], AbstractAsyncContextManager[httpx.AsyncClient]]:
    """Return a way to serve the application as it is patched now."""
    return lambda: serve(create_app(guarded(settings), broker=open_broker(settings)))


def test_only_probes_are_open() -> None:
    """What the contract leaves open is what it may, and the probes are."""
    assert open_paths(load_contract()) == OPEN


def test_scopes_fit_their_paths() -> None:
    """Everything below /admin is the administrator's; what writes needs more than reading."""
    for path, method, operation in operations():
        scope = operation.get("x-required-scope")
        if path in OPEN:
            assert scope is None
        elif path.startswith("/admin/"):
            assert scope == "admin", path
        elif path.startswith("/api/"):
            assert scope == ("tasks:read" if method == "get" else "tasks:write"), path
        else:
            assert scope == {"/metrics": "metrics", "/ws": "tasks:read"}[path]


def test_refusals_are_documented() -> None:
    """Whoever may be refused is told so by the contract, and nobody else."""
    for path, _, operation in operations():
        documented = {"401", "403"} & set(operation["responses"])
        assert documented == (set() if path in OPEN else {"401", "403"}), path


async def test_every_operation(start: Any, callers: Callers) -> None:
    """Each operation refuses a missing, a wrong and an under-scoped credential, and no other."""
    async with start() as http:
        assert await mistakes(http, callers) == []


@pytest.mark.parametrize("name", ["create_task", "purge_queue", "get_metrics", "connect_websocket"])
async def test_open_route_is_noticed(
    start: Any, callers: Callers, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A server that lets everybody use one operation fails the test above, for that operation."""
    monkeypatch.setattr(
        application, "required_scopes", lambda contract: required_scopes(contract) | {name: None}
    )
    [path] = [path for path, _, operation in operations() if operation["operationId"] == name]
    async with start() as http:
        found = await mistakes(http, callers)
    assert len(found) >= len(callers.refused("admin"))
    assert {sentence.split()[1] for sentence in found} == {path}


async def test_wrong_scope_is_noticed(
    start: Any, callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does one that asks for less than the contract says."""
    less = {"purge_queue": "tasks:read"}
    monkeypatch.setattr(
        application, "required_scopes", lambda contract: required_scopes(contract) | less
    )
    async with start() as http:
        found = await mistakes(http, callers)
    assert any("delete /admin/queues/{priority} answers a key" in sentence for sentence in found)


def _changed(change: Callable[[Contract], Any]) -> Contract:
    contract = copy.deepcopy(load_contract())
    change(contract["paths"]["/admin/dlq"]["delete"])
    return contract


async def test_open_contract_is_noticed() -> None:
    """A contract that opens a path fails the test of the probes."""

    def open_up(operation: Contract) -> None:
        operation["security"] = []
        del operation["x-required-scope"]

    contract = _changed(open_up)
    required_scopes(contract)
    assert open_paths(contract) - OPEN == {"/admin/dlq"}


@pytest.mark.parametrize(
    "change",
    [
        lambda operation: operation.pop("x-required-scope"),
        lambda operation: operation.update({"x-required-scope": "Admin"}),
        lambda operation: operation.update({"security": []}),
        lambda operation: operation.update({"security": [{}]}),
        lambda operation: operation.update({"security": [{}, {"apiKey": []}, {"bearer": []}]}),
        lambda operation: operation.update({"security": [{"apiKey": []}]}),
        lambda operation: operation.update({"security": [{"apiKey": [], "bearer": []}]}),
    ],
)
async def test_unclear_contract_does_not_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, change: Callable[[Contract], Any]
) -> None:
    """An operation that does not say what it needs stops the start, rather than being open."""
    contract = _changed(change)
    monkeypatch.setattr(application, "load_contract", lambda: contract)
    with pytest.raises(RuntimeError, match="operation clear_dead_letters needs"):
        create_app(settings)
