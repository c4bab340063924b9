"""What Redis answers becomes one of our errors: full, come again later, or broken."""

from __future__ import annotations

import pytest
from redis._parsers.base import BaseParser
from redis.asyncio import Redis

from taskqueue_core.broker.clients import translate
from taskqueue_core.errors import BrokerError, BrokerFullError, BrokerUnavailableError

#: An answer as Redis words it -> our error.
ANSWERS = {
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL.": BrokerUnavailableError,
    "LOADING Redis is loading the dataset in memory": BrokerUnavailableError,
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set": (
        BrokerUnavailableError
    ),
    "READONLY You can't write against a read only replica.": BrokerUnavailableError,
    "UNBLOCKED force unblock from blocking operation, instance state changed": (
        BrokerUnavailableError
    ),
    "NOREPLICAS Not enough good replicas to write.": BrokerUnavailableError,
    "CLUSTERDOWN The cluster is down": BrokerUnavailableError,
    "TRYAGAIN Multiple keys request during rehashing of slot": BrokerUnavailableError,
    "ASK 12 127.0.0.1:7001": BrokerUnavailableError,
    "ERR max number of clients reached": BrokerUnavailableError,
    "OOM command not allowed when used memory > 'maxmemory'.": BrokerFullError,
    "MISCONF Redis is configured to save RDB snapshots": BrokerFullError,
    "WRONGTYPE Operation against a key holding the wrong kind of value": BrokerError,
    "ERR at most 100 tasks a call script: f00, on @user_script:7.": BrokerError,
    "ERR I said BUSY and READONLY": BrokerError,
    "BUSYKEY Target key name already exists.": BrokerError,
    "BUSYGROUP Consumer Group name already exists": BrokerError,
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_of_redis(answer: str) -> None:
    """Its code decides, as redis-py reads it; the text stays for whoever looks into it."""
    error = translate(BaseParser.parse_error(answer))
    assert type(error) is ANSWERS[answer]
    assert answer.partition(" ")[2] in str(error)


@pytest.mark.parametrize("code", ["BUSY", "UNBLOCKED", "NOREPLICAS", "MISCONF"])
def test_an_answer_within_a_pipeline(code: str) -> None:
    """redis-py puts words of its own before it, which change nothing."""
    alone, inside = (BaseParser.parse_error(f"{code} for now") for _ in range(2))
    Redis().pipeline().annotate_exception(inside, 1, ["HMGET", "key"])
    assert "pipeline" in str(inside)
    assert type(translate(inside)) is type(translate(alone)) is not BrokerError
