"""Every exception the core raises on purpose.

TaskQueueError
├── SettingsError            a setting, file or flag is wrong; the message holds the fix
├── InvalidTaskError         a submission breaks a rule (carries ``field`` and ``rule``)
├── InvalidKeyError          an API key is asked for that may not be; the message holds the rule
├── NotFoundError            no such task, worker, dead letter, or API key
├── StateConflictError       the task's state does not allow the change
├── IdempotencyError         an idempotency key was used for another request before
├── CapacityError            the queue is full, now (carries ``retry_after_seconds``)
├── BrokerError
│   ├── BrokerUnavailableError   Redis cannot be reached, not in time, or is not ready
│   ├── BrokerFullError          Redis refuses writes: its memory or disk is full
│   └── SchemaError              the namespace was made with other, incompatible settings
└── PluginError              a plugin cannot be loaded, or two claim one task type
"""

from __future__ import annotations


class TaskQueueError(Exception):
    """Raised when taskqueue cannot do what was asked; every error below is one of these."""


class SettingsError(TaskQueueError):
    """Raised when a setting is unknown, malformed or refused; nothing has been started."""


class InvalidTaskError(TaskQueueError):
    """Raised when a submission breaks a rule; nothing was stored.

    ``field`` is the name of the offending field, ``rule`` what it must be.
    """

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}")
        self.field = field
        self.rule = rule


class InvalidKeyError(TaskQueueError):
    """Raised when an API key breaks a rule; nothing was stored."""


class NotFoundError(TaskQueueError):
    """Raised when the named task, worker, dead letter or API key does not exist.

    ``kind`` is one of these four, ``name`` the id that was asked for.
    """

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind} {name} not found")
        self.kind = kind
        self.name = name


class StateConflictError(TaskQueueError):
    """Raised when the task's present ``state`` does not allow ``action``; nothing changed."""

    def __init__(self, task_id: str, state: str, action: str, allowed: str, hint: str = "") -> None:
        super().__init__(f"task {task_id} is {state}: only {allowed} tasks can be {action}{hint}")
        self.task_id = task_id
        self.state = state


class IdempotencyError(TaskQueueError):
    """Raised when a submission has the key of another, different one; nothing was stored."""

    def __init__(self) -> None:
        super().__init__(
            "this Idempotency-Key was used for another request; send the same one again, or take "
            "a new key"
        )


class CapacityError(TaskQueueError):
    """Raised when the backlog limit is reached; the submission was not stored."""

    retry_after_seconds = 1

    def __init__(self, limit: int) -> None:
        super().__init__(f"the queue is full ({limit} unfinished tasks); try again later")
        self.limit = limit


class BrokerError(TaskQueueError):
    """Raised when the broker answers with an error."""


class BrokerUnavailableError(BrokerError):
    """Raised when the broker cannot be reached, does not answer in time, or says "not now"."""


class BrokerFullError(BrokerError):
    """Raised when the broker refuses writes because its memory or disk is full."""


class SchemaError(BrokerError):
    """Raised when the namespace in Redis was created with incompatible settings."""


class PluginError(TaskQueueError):
    """Raised when a plugin cannot be loaded, or its handlers clash with another's."""
