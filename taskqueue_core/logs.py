"""Log lines: JSON on stderr for machines, plain columns when a person watches a terminal.

Every line carries ``timestamp`` (UTC, RFC 3339), ``level``, ``event``, what is bound with
``structlog.contextvars``, what its ``subject`` says of itself, and the ids of the trace and the
span that it is written in, if there are any. Lines of the standard library's loggers take the same
way.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor

_WINDOW_SECONDS: Final = 60.0
#: They log the address of every request, with a query in which secrets may be.
_INDISCREET: Final = ("httpx",)
_TRACE_API: Final = "opentelemetry.trace"

#: Tells what is at work here, an attempt or a request, for lines that do not say it themselves. It
#: is called for a line and not before: most attempts and requests write none.
subject: Final[ContextVar[Callable[[], Mapping[str, object]] | None]] = ContextVar(
    "taskqueue_subject", default=None
)


def configure_logging(level: str) -> None:
    """Send every log line of the process at or above ``level`` to stderr; call it again at will.

    Raises:
        ValueError: no such level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"unknown log level {level!r}")
    before = _before_rendering()
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *before,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = _StderrHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(is_terminal=sys.stderr.isatty()),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=number, force=True)
    for name in _INDISCREET:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to stderr, also when the one that was there at first has been closed since."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        if self.stream.closed:
            self.stream = sys.stderr  # setStream would flush the closed one
        super().emit(record)


def _before_rendering() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        _add_subject,
        _add_trace,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _add_subject(_logger: Any, _method: str, line: EventDict) -> EventDict:
    describe = subject.get()
    return line if describe is None else {**describe(), **line}


def _add_trace(_logger: Any, _method: str, line: EventDict) -> EventDict:
    # Where nobody has imported OpenTelemetry, no span is at work.
    current_span = getattr(sys.modules.get(_TRACE_API), "get_current_span", None)
    if current_span is not None:
        context = current_span().get_span_context()
        if context.is_valid:
            line["trace_id"] = f"{context.trace_id:032x}"
            line["span_id"] = f"{context.span_id:016x}"
    return line


def _renderers(*, is_terminal: bool) -> list[Processor]:
    if is_terminal:
        # Exceptions are plain text before they get here: the console's own, prettier form shows
        # local variables, secrets among them. Saying so twice keeps structlog from a warning.
        console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        return [structlog.processors.format_exc_info, _escape, console]
    return [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(serializer=_to_json),
    ]


def _to_json(line: EventDict, **_: Any) -> str:
    """Return one line of ASCII JSON; what has no JSON form is shown as its ``repr``."""
    try:
        return json.dumps(line, default=repr, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        shown = {
            name: value if isinstance(value, str) else repr(value) for name, value in line.items()
        }
        return json.dumps(shown)


def _escape(_logger: Any, _method: str, line: EventDict) -> EventDict:
    """Keep a value from a request from steering the terminal or faking a second line."""
    return {name: _shown(name, value) for name, value in line.items()}


def _shown(name: str, value: object) -> object:
    if not isinstance(value, str):
        return value
    if name == "exception":
        return "\n".join(_printable(part) for part in value.split("\n"))
    return _printable(value)


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class Throttle:
    """Lets through at most ``limit`` lines a minute for each key, and ``total`` for all of them.

    The minutes of a key follow one another; the total holds in any 60 seconds. The ``max_keys``
    keys asked about last are remembered; ``clock`` gives seconds and never goes back, as
    ``time.monotonic``.
    """

    def __init__(
        self,
        limit: int,
        clock: Callable[[], float],
        *,
        total: int | None = None,
        max_keys: int = 1024,
    ) -> None:
        self._limit = limit
        self._latest: deque[float] = deque(maxlen=total)
        self._clock = clock
        self._max_keys = max_keys
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def allow(self, key: str) -> bool:
        """Tell whether a line with ``key`` may be written now, and count it when it may."""
        now = self._clock()
        started, count = self._windows.pop(key, (now, 0))
        if now - started >= _WINDOW_SECONDS:
            started, count = now, 0
        is_allowed = count < self._limit and self._has_room(now)
        if is_allowed:
            self._latest.append(now)
        self._windows[key] = (started, count + is_allowed)
        if len(self._windows) > self._max_keys:
            self._windows.popitem(last=False)
        return is_allowed

    def _has_room(self, now: float) -> bool:
        total = self._latest.maxlen
        if total is None or len(self._latest) < total:
            return True
        return now - self._latest[0] >= _WINDOW_SECONDS
