"""Every setting with its type, its default and its rule, and the values they are written as.

Durations are seconds as floats (``*_seconds``). All values are immutable; ``config.py`` reads them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qsl, urlencode

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

_UNITS: Final = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "μs": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}
_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_PLAIN: Final = re.compile(r"\d+(\.\d*)?(e[+-]?\d{1,3})?|\.\d+", re.IGNORECASE)
_TEN_YEARS: Final = 315_360_000.0
#: The same as ``models.NAME_PATTERN``, which is a layer above; a test compares them.
_NAME_PATTERN: Final = r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$"
_SCHEMES: Final = tuple(
    f"{plain}{kind}" for kind in ("", "+sentinel", "+cluster") for plain in ("redis", "rediss")
)
_REST: Final = re.compile(
    r"(?P<user>[^@/?#]*@)?(?P<nodes>[^@/?#]*)(?:/(?P<path>[^?#]*))?(?:\?(?P<query>[^#]*))?"
)
_SOCKET_REST: Final = re.compile(r"(?:[^@/?#]*@)?/[^?#]+(?:\?(?P<query>[^#]*))?")
_NODE: Final = re.compile(r"([^\s:/\[\],]+|\[[0-9A-Fa-f:.]+\])(?::(\d{1,5}))?")
_ORIGIN: Final = re.compile(r"https?://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?")
_OPTIONS: Final = ("db", "username", "password", "client_name")
_TLS_OPTIONS: Final = tuple(
    f"ssl_{name}" for name in ("ca_certs", "certfile", "keyfile", "cert_reqs", "check_hostname")
)
_SENTINEL_OPTIONS: Final = ("sentinel_username", "sentinel_password")


def parse_duration(value: object) -> float:
    """Return ``30s``, ``5m``, ``1h30m``, ``500ms`` or a plain number as seconds.

    Raises:
        ValueError: not a duration, or a negative one.
    """
    text = str(value).strip()
    if _PLAIN.fullmatch(text):
        return float(text)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("should be a duration such as 30s, 5m or 1h30m")
    return float(sum(Decimal(number) * _UNITS[unit] for number, unit in parts))


def format_duration(seconds: float) -> str:
    """Return seconds in the form ``parse_duration`` reads, such as ``1h30m``."""
    if not seconds.is_integer():
        return f"{seconds}s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"


def redact_url(url: str) -> str:
    """Return a Redis URL without its user and password, fit for messages and logs."""
    shown = re.sub(r"(?<=://).*@", "***@", url, flags=re.DOTALL)
    options = r"(?i)((?:^|[?&])(?:sentinel_)?(?:username|password)=)[^&#]*"
    return re.sub(options, r"\1***", shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisUrl:
    """A Redis URL in its parts.

    ``plain`` is the URL of its first server alone, with user, database and options, in the form
    that every Redis client reads. A sentinel's own ``sentinel_options`` are not in it.
    """

    kind: Literal["", "sentinel", "cluster"]
    plain: str
    nodes: tuple[tuple[str, int], ...] = ()
    service: str = ""
    sentinel_options: Mapping[str, str]


def parse_redis_url(url: str) -> RedisUrl:
    """Return the parts of a Redis URL; a server without a port has the usual one of its kind.

    Raises:
        ValueError: not a URL of Redis, Sentinel or a cluster. The message quotes no part of it
            that may be secret.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "unix":
        return _parse_socket(url, rest)
    if scheme not in _SCHEMES:
        raise ValueError(f"should begin with {'://, '.join(_SCHEMES)}:// or unix://")
    found = _REST.fullmatch(rest)
    if found is None:
        raise ValueError("should have / ? # and @ percent-encoded in user and password")
    plain, _, kind = scheme.partition("+")
    nodes = _parse_nodes(found["nodes"], 26379 if kind == "sentinel" else 6379)
    if len(nodes) > 1 and not kind:
        raise ValueError(f"should name one server, or begin with {plain}+sentinel or +cluster")
    service, _, db = (found["path"] or "").rpartition("/")
    if kind == "sentinel" and not service:
        # Without a slash, the one part there is names the service.
        service, db = db, ""
    if kind == "sentinel" and not service:
        raise ValueError(f"should end with the service's name: {scheme}://host:26379/service")
    if "/" in service or (service and kind != "sentinel") or not re.fullmatch(r"\d{0,5}", db):
        raise ValueError("should have the number of a database as its last part")
    if kind == "cluster" and int(db or 0):
        raise ValueError("should name no database: a cluster has number 0 only")
    options = _parse_options(found["query"], kind=kind, is_tls=plain == "rediss")
    own = {name: options.pop(name) for name in _SENTINEL_OPTIONS if name in options}
    query = "?" + urlencode(options) if options else ""
    (host, port), *_ = nodes
    return RedisUrl(
        kind="sentinel" if kind == "sentinel" else "cluster" if kind else "",
        plain=f"{plain}://{found['user'] or ''}{host}:{port}/{db}{query}",
        nodes=tuple((host.strip("[]"), port) for host, port in nodes),
        service=service,
        sentinel_options={name.removeprefix("sentinel_"): own[name] for name in own},
    )


def _parse_socket(url: str, rest: str) -> RedisUrl:
    found = _SOCKET_REST.fullmatch(rest)
    if found is None:
        raise ValueError("should be unix:///path/of/the/socket?db=0")
    _parse_options(found["query"], kind="", is_tls=False)
    return RedisUrl(kind="", plain=url, sentinel_options={})


def _parse_nodes(text: str, default_port: int) -> list[tuple[str, int]]:
    found = [_NODE.fullmatch(node) for node in text.split(",")]
    nodes = [(node[1], int(node[2] or default_port)) for node in found if node]
    if len(nodes) < len(found) or not all(0 < port < 65536 for _, port in nodes):
        raise ValueError("should name each server as host or host:port")
    return nodes


def _parse_options(query: str | None, *, kind: str, is_tls: bool) -> dict[str, str]:
    known = [*_OPTIONS, *(_TLS_OPTIONS * is_tls), *(_SENTINEL_OPTIONS * (kind == "sentinel"))]
    options = dict(parse_qsl(query or "", keep_blank_values=True))
    for name in options:
        if name not in known:
            raise ValueError(f"has an unknown option {name}; this one may have {', '.join(known)}")
    if not re.fullmatch(r"\d{1,5}", db := options.get("db", "0")) or (
        kind == "cluster" and int(db)
    ):
        raise ValueError("has an option db that is not the number of a database there")
    return options


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("should be a number")  # noqa: TRY004 -- pydantic reports ValueErrors only
    return value


def _items(value: object) -> object:
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


def _pairs(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = [item.partition("=") for item in value.split(",") if item.strip()]
    if not all(equals for _, equals, _ in pairs):
        raise ValueError("should be a list such as email=taskqueue-email,http=taskqueue-http")
    return {name.strip(): chosen.strip() for name, _, chosen in pairs}


def _level(value: object) -> object:
    lowered = value.strip().lower() if isinstance(value, str) else value
    return "warning" if lowered == "warn" else lowered


def _folder(value: object) -> object:
    if value == "":
        raise ValueError('should name a directory ("." is the current one)')
    return value


def _address(value: object) -> object:
    if isinstance(value, str) and value:
        found = _NODE.fullmatch(value)
        if not found or not found[2] or not 0 < int(found[2]) < 65536:
            raise ValueError("should be host:port, a port up to 65535 (a URL goes to redis.url)")
    return value


def _redis_url(url: str) -> str:
    if url:
        parse_redis_url(url)
    return url


def _origin(text: str) -> str:
    if not _ORIGIN.fullmatch(text.lower()):
        raise ValueError("should be origins such as https://console.example.org, without a path")
    return text.lower()


Duration = Annotated[
    float, BeforeValidator(parse_duration), Field(gt=0, le=_TEN_YEARS, allow_inf_nan=False)
]
Wait = Annotated[
    float, BeforeValidator(parse_duration), Field(ge=0, le=_TEN_YEARS, allow_inf_nan=False)
]
Days = Annotated[float, BeforeValidator(_number), Field(ge=0, le=36_500, allow_inf_nan=False)]
Real = Annotated[float, BeforeValidator(_number), Field(ge=0, allow_inf_nan=False)]
Whole = Annotated[int, BeforeValidator(_number), Field(ge=0, lt=2**53)]
Name = Annotated[str, Field(pattern=_NAME_PATTERN)]
Word = Annotated[str, Field(pattern=r"^[^\s,=]+$")]
ApiKey = Annotated[str, Field(pattern=r"^[^\s,]+$")]
Origin = Annotated[str, AfterValidator(_origin)]


class Section(BaseModel):
    """Settings that belong together; unknown names are refused, inputs kept out of errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ServerSettings(Section):
    """The HTTP side. Port 0 takes any free port; ``workers`` are server processes.

    Browsers may use the API from pages of ``cors_origins``, beside those of the server itself. The
    limits of connections are those of one process. ``access_log`` has each answer logged.
    """

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[Whole, Field(le=65535)] = 8080
    workers: Annotated[Whole, Field(ge=1)] = 1
    read_header_timeout_seconds: Duration = 10.0
    read_timeout_seconds: Duration = 30.0
    write_timeout_seconds: Duration = 30.0
    idle_timeout_seconds: Duration = 120.0
    max_connections: Annotated[Whole, Field(ge=1)] = 4_000
    max_connections_per_address: Annotated[Whole, Field(ge=1)] = 2_000
    max_body_bytes: Annotated[Whole, Field(ge=1)] = 1_048_576
    cors_origins: Annotated[tuple[Origin, ...], BeforeValidator(_items)] = ()
    access_log: bool = False


class RedisSettings(Section):
    """Where the broker is. Neither ``url`` nor ``addr`` means the embedded one."""

    url: Annotated[str, AfterValidator(_redis_url)] = ""
    addr: Annotated[str, BeforeValidator(_address)] = ""
    password: Annotated[str, Field(repr=False)] = ""
    db: Whole = 0
    pool_size: Annotated[Whole, Field(ge=1)] = 100
    max_retries: Whole = 3
    dial_timeout_seconds: Duration = 5.0
    read_timeout_seconds: Duration = 3.0

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Hide the password that a URL may carry."""
        for name, value in super().__repr_args__():
            yield name, redact_url(value) if name == "url" else value


class WorkerSettings(Section):
    """One worker. No ``queues`` means all of them, no ``id`` a generated one.

    ``lease_seconds`` is how long a silent worker keeps its tasks (``worker.heartbeattimeout``).
    """

    id: Annotated[str, Field(pattern=_NAME_PATTERN + "|^$")] = ""
    concurrency: Annotated[Whole, Field(ge=1, le=10_000)] = 10
    processes: Annotated[Whole, Field(ge=1, le=1_024)] = 1
    queues: Annotated[tuple[Name, ...], BeforeValidator(_items)] = ()
    heartbeat_interval_seconds: Duration = 5.0
    lease_seconds: Duration = 15.0
    shutdown_timeout_seconds: Wait = 30.0
    max_result_bytes: Annotated[Whole, Field(ge=1)] = 1_048_576

    @model_validator(mode="after")
    def _renew_in_time(self) -> WorkerSettings:
        """Refuse a lease that one late heartbeat would lose."""
        interval, lease = self.heartbeat_interval_seconds, self.lease_seconds
        if interval > lease / 2:
            raise ValueError(
                f"worker.heartbeatinterval ({format_duration(interval)}) should be at most half of "
                f"worker.heartbeattimeout ({format_duration(lease)}): lower the first to "
                f"{format_duration(lease / 2)} or raise the second to "
                f"{format_duration(interval * 2)}"
            )
        return self


class QueueSettings(Section):
    """Limits, retries and retention. 0 days keep dead letters for ever.

    ``durability`` is what a submission must survive before it is answered: the end of any process,
    the loss of power (``disk``), or the loss of the server, on ``replicas`` others (``replica``).
    """

    namespace: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")] = "default"
    partitions: Annotated[Whole, Field(ge=1, le=256)] = 1
    durability: Literal["process", "disk", "replica"] = "process"
    replicas: Annotated[Whole, Field(ge=1)] = 1
    max_queue_size: Annotated[Whole, Field(ge=1)] = 1_000_000
    max_queues: Annotated[Whole, Field(ge=1)] = 256
    retry_max_attempts: Whole = 3
    retry_initial_backoff_seconds: Wait = 1.0
    retry_max_backoff_seconds: Wait = 300.0
    retry_backoff_factor: Annotated[Real, Field(ge=1)] = 2.0
    retry_jitter_factor: Annotated[Real, Field(le=1)] = 0.1
    rate_limit_rps: Annotated[Whole, Field(ge=1)] = 1000
    task_retention_days: Annotated[Days, Field(gt=0)] = 7.0
    dead_letter_retention_days: Days = 30.0
    idempotency_hours: Annotated[Real, Field(gt=0, le=8_760)] = 24.0
    default_timeout_seconds: Duration = 300.0
    unhandled_timeout_seconds: Duration = 86_400.0
    max_lost_leases: Annotated[Whole, Field(ge=1)] = 3


class EventSettings(Section):
    """How many events are kept for readers that come back, and WebSockets a server process has.

    ``max_connections_per_key`` of them may show the same credential, where one is asked for.
    """

    max_length: Annotated[Whole, Field(ge=1)] = 100_000
    max_connections: Annotated[Whole, Field(ge=1)] = 1_000
    max_connections_per_key: Annotated[Whole, Field(ge=1)] = 100


class MetricsSettings(Section):
    """Whether and where Prometheus reads."""

    enabled: bool = True
    path: Annotated[str, Field(pattern=r"^/[^\s?#]*$")] = "/metrics"


class TracingSettings(Section):
    """Whether submissions and attempts are spans of OpenTelemetry, which is an extra."""

    enabled: bool = False


class AuthSettings(Section):
    """Who may call. An API key holds no comma and no space, so that a list of them is text.

    With ``jwt_secret`` tokens signed with HS256 are accepted too, of ``jwt_issuer`` and for
    ``jwt_audience`` only, where these are set.
    """

    enabled: bool = False
    jwt_secret: Annotated[str, Field(repr=False)] = ""
    jwt_issuer: str = ""
    jwt_audience: str = ""
    api_keys: Annotated[tuple[ApiKey, ...], BeforeValidator(_items), Field(repr=False)] = ()


class PluginSettings(Section):
    """Which distributions are not loaded; ``prefer`` maps a task type to the one that wins it."""

    disabled: Annotated[tuple[Word, ...], BeforeValidator(_items)] = ()
    strict: bool = False
    prefer: Annotated[Mapping[Word, Word], BeforeValidator(_pairs)] = {}


class Settings(Section):
    """Every setting, checked. ``Settings()`` holds the defaults and reads nothing."""

    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_level)
    ] = "info"
    data_dir: Annotated[Path, BeforeValidator(_folder)] = Path(".taskqueue")
    server: ServerSettings = ServerSettings()
    redis: RedisSettings = RedisSettings()
    worker: WorkerSettings = WorkerSettings()
    queue: QueueSettings = QueueSettings()
    events: EventSettings = EventSettings()
    metrics: MetricsSettings = MetricsSettings()
    tracing: TracingSettings = TracingSettings()
    auth: AuthSettings = AuthSettings()
    plugins: PluginSettings = PluginSettings()
