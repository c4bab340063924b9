from typing import Any

from ...models.retry_all_dead_letters import RetryAllDeadLetters
from ...models.retry_one_dead_letter import RetryOneDeadLetter
from ...models.retry_wanted_dead_letters import RetryWantedDeadLetters


def retry_dead_letters(
    *,
    body: RetryAllDeadLetters | RetryOneDeadLetter | RetryWantedDeadLetters,
) -> dict[str, Any]:
    """Send dead letters back to their queues"""
    headers: dict[str, Any] = {}

    _kwargs: dict[str, Any] = {
        "method": "post",
        "url": "/admin/dlq/retry",
    }

    if isinstance(body, RetryOneDeadLetter):
        _kwargs["json"] = body.to_dict()
    elif isinstance(body, RetryWantedDeadLetters):
        _kwargs["json"] = body.to_dict()
    else:
        _kwargs["json"] = body.to_dict()

    headers["Content-Type"] = "application/json"
    _kwargs["headers"] = headers
    return _kwargs
