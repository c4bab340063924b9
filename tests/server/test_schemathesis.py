"""The running server against what the contract allows and forbids: the same requests every run.

``/ws`` is left out, as its success is no answer to a request; ``test_websocket.py`` has it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import datetime
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from redis import Redis
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import FailureGroup

from taskqueue_core.processes import bind_listener
from taskqueue_core.settings import AuthSettings, QueueSettings, RedisSettings, Settings
from taskqueue_server.app import create_app
from taskqueue_server.serving import Server
from taskqueue_server.spec import find_contract, load_contract

_KEY = "a-key"
_TASK = "/api/v1/tasks/{task_id}"
_NOBODY = "01890a5d-ac96-774b-bcce-b302099a8000"
_HEADERS = {"X-API-Key": _KEY, "Authorization": f"Bearer {_KEY}"}

# That a time is at most a year ahead is a rule of the clock, which no schema can say.
schemathesis.openapi.format(
    "date-time",
    st.datetimes(max_value=datetime(2026, 1, 1)).map(lambda moment: moment.isoformat() + "Z"),  # noqa: DTZ001 -- hypothesis takes naive bounds
)


_EXPECTED = ["2xx", "401", "403", "404", "409", "422", "429", "5xx"]


def load(*, has_auth: bool) -> Any:
    """Return the contract for one of the two servers, with the rules that hold for it."""
    config = SchemathesisConfig.from_dict(
        {
            "generation": {"deterministic": True, "database": "none"},
            # Values at the edges of the schemas are tried once, as the gate comes before them.
            "phases": {"coverage": {"enabled": not has_auth}},
            "checks": {"ignored_auth": {"enabled": has_auth}},
            "operations": [
                {
                    # A key that was used for another request is refused, whatever is sent with it.
                    "include-operation-id": ["create_task", "create_tasks"],
                    "checks": {"positive_data_acceptance": {"expected-statuses": _EXPECTED}},
                },
                {
                    # A cancelled task can still be read, and nobody has to wait for it here.
                    "include-operation-id": "get_task",
                    "parameters": {"query.wait": 0},
                    "checks": {"use_after_free": {"enabled": False}},
                },
                {
                    # A cancelled task has attempts, and can be sent back.
                    "include-operation-id": ["list_attempts", "retry_task"],
                    "checks": {"use_after_free": {"enabled": False}},
                },
                {
                    # Which ids are those of events is a rule that no schema can say.
                    "include-operation-id": "list_events",
                    "parameters": {"query.after": "0"},
                },
                {
                    # That a cursor is one of ours is a rule that no schema can say.
                    "include-operation-id": ["search_tasks", "list_dead_letters"],
                    "checks": {"positive_data_acceptance": {"enabled": False}},
                },
            ],
        }
    )
    return schemathesis.openapi.from_path(find_contract(), config=config).exclude(path="/ws")


OPEN, GUARDED = load(has_auth=False), load(has_auth=True)


def quick(max_examples: int) -> settings:
    """Return how much is tried, and that it is the same in every run."""
    return settings(
        max_examples=max_examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def urls(redis_url: str) -> Iterator[dict[str, str]]:
    """Yield the addresses of three servers; the guarded one asks for a key."""
    servers = []
    found = {}
    for name in ("open", "guarded", "sequences"):
        auth = AuthSettings(enabled=name == "guarded", api_keys=(_KEY,))
        queue = QueueSettings(namespace=name, max_queues=10**6, rate_limit_rps=10**6)
        chosen = Settings(redis=RedisSettings(url=redis_url), queue=queue, auth=auth)
        listener = bind_listener("127.0.0.1", 0)
        server = Server(create_app(chosen), chosen)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        servers.append((server, thread, listener))
        found[name] = f"http://127.0.0.1:{listener.getsockname()[1]}"
    yield found
    for server, thread, listener in servers:
        server.should_exit = True
        thread.join()
        listener.close()


@OPEN.parametrize()
@quick(40)
def test_open_server(case: schemathesis.Case, urls: dict[str, str]) -> None:
    """Valid requests are served, invalid ones refused, and every answer is as documented."""
    case.call_and_validate(base_url=urls["open"])


@GUARDED.parametrize()
@quick(8)
def test_guarded_server(case: schemathesis.Case, urls: dict[str, str]) -> None:
    """The same with keys, which nothing can be done without."""
    case.call_and_validate(base_url=urls["guarded"], headers=_HEADERS)


@pytest.mark.parametrize("is_documented", [True, False])
def test_an_undocumented_status_is_noticed(is_documented: bool, urls: dict[str, str]) -> None:
    """What the tests above would do with an answer that the contract does not know."""
    contract = load_contract()
    answers = contract["paths"][_TASK]["get"]["responses"]
    if not is_documented:
        answers["418"] = answers.pop("404")
    operation = schemathesis.openapi.from_dict(contract)[_TASK]["GET"]
    case = operation.Case(path_parameters={"task_id": _NOBODY})
    expected = nullcontext() if is_documented else pytest.raises(FailureGroup, match="Undocumented")
    with expected:
        case.call_and_validate(base_url=urls["open"])


def test_sequences(urls: dict[str, str], redis_url: str) -> None:
    """Tasks are created, then read and cancelled, along the links of the contract."""
    redis = Redis.from_url(redis_url)

    class Machine(OPEN.as_state_machine()):  # type: ignore[misc]  # made at run time
        def setup(self) -> None:
            # What an earlier sequence left would decide where the next one can go.
            for key in redis.scan_iter("tq:{sequences.*", count=1000):
                redis.unlink(key)

        def before_call(self, case: schemathesis.Case) -> None:
            # A key would make of every repeated example something else than the first time.
            case.headers.pop("Idempotency-Key", None)
            # Along links the parameters that are set above for single requests do not count.
            case.query.pop("wait", None)
            case.query.pop("after", None)

        def get_call_kwargs(self, case: schemathesis.Case) -> dict[str, Any]:
            return {"base_url": urls["sequences"]}

    with redis:
        Machine.run(settings=settings(quick(40), stateful_step_count=8))
