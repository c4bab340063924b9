"""Many tasks in one request: each has an answer of its own, in the order of the request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taskqueue_core.broker import BATCH, Broker
from taskqueue_core.errors import BrokerError, IdempotencyError, TaskQueueError
from taskqueue_core.models import Submitted
from taskqueue_server.problems import problem_fields, to_problem
from taskqueue_server.submissions import Submission

#: What became of one task.
Answer = Submitted | Exception


async def submit_batch(
    broker: Broker, submissions: Sequence[Submission], *, refusal: Exception | None
) -> list[Answer]:
    """Submit the tasks of a request that break no rule.

    Tasks with an idempotency key that were accepted when the request came before are answered as
    they were then, whatever now speaks against them: a rule, or ``refusal`` of the request as a
    whole, which holds when any other task would have to be stored.

    Raises:
        IdempotencyError: the key was used for another request; nothing is stored.
        BrokerError: the broker answered for none of the tasks.
        Exception: it is ``refusal``.
    """
    answers = await _find_repeats(broker, submissions, is_refused=refusal is not None)
    new = [at for at, one in enumerate(submissions) if at not in answers and one.error is None]
    if refusal is not None and (new or not answers):
        raise refusal
    answers.update(await _submit(broker, submissions, new))
    rows = enumerate(submissions)
    return [answers[at] if at in answers else _error_of(one) for at, one in rows]


def _error_of(submission: Submission) -> Exception:
    assert submission.error is not None
    return submission.error


async def _find_repeats(
    broker: Broker, submissions: Sequence[Submission], *, is_refused: bool
) -> dict[int, Answer]:
    """Return the answers of tasks that cannot be submitted but were, by their places."""
    places = [
        at
        for at, one in enumerate(submissions)
        if one.task.idempotency is not None and (is_refused or one.error is not None)
    ]
    if not places:
        return {}
    found = await broker.find_repeats([submissions[at].task for at in places])
    return {at: repeat for at, repeat in zip(places, found, strict=True) if repeat}


async def _submit(
    broker: Broker, submissions: Sequence[Submission], places: Sequence[int]
) -> dict[int, Answer]:
    tasks = [submissions[at].task for at in places]
    if not tasks:
        return {}
    if tasks[0].idempotency is None:
        # Their ids are ours to change: nobody has seen them yet.
        return dict(zip(places, await broker.submit_many(tasks, may_move=True), strict=True))
    # The first hundred show whether the key is that of another request.
    first = sum(place < BATCH for place in places)
    answers: list[Submitted | TaskQueueError] = []
    if first:
        answers = await broker.submit_many(tasks[:first])
        other = next((answer for answer in answers if isinstance(answer, IdempotencyError)), None)
        if other is not None:
            raise other
    if tasks[first:]:
        try:
            answers += await broker.submit_many(tasks[first:])
        except BrokerError as error:
            if not answers:
                raise
            answers += [error] * len(tasks[first:])
    return dict(zip(places, answers, strict=True))


def refused_item(error: Exception) -> dict[str, Any]:
    """Return the item of a task that was not accepted."""
    problem = to_problem(error)
    if problem is None:
        raise error
    return {"status": problem.status, **problem_fields(problem)}
