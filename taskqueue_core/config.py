"""The one place that reads settings, and the ways to show them and hand them on.

A value comes from a flag, else the environment, else one YAML file, else its default. Names
are compared without underscores and case in all three, so ``retry_max_attempts``,
``retrymaxattempts`` and ``TASKQUEUE_QUEUE_RETRYMAXATTEMPTS`` are one setting. A setting's *key* is
its section and its attribute in lower case without underscores and unit: ``queue.maxqueuesize``.
Whatever is unknown or breaks a rule stops the start; secrets never appear in a message.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from taskqueue_core.errors import SettingsError
from taskqueue_core.settings import Section, Settings, format_duration, redact_url

__all__ = [
    "Settings",
    "LoadedSettings",
    "load_settings",
    "describe",
    "settings_to_environ",
    "child_environ",
    "redact_url",
    "KEYS",
    "PREFIX",
    "REPLACED",
    "SEARCH",
    "SECRETS",
]

PREFIX: Final = "TASKQUEUE_"

#: Where a configuration file is looked for when none is named; the first that exists is read.
SEARCH: Final = (
    Path("config.yaml"),
    Path("config/config.yaml"),
    Path("/etc/taskqueue/config.yaml"),
)

#: Keys of older files that mean nothing here any more -> what took their place.
REPLACED: Final[Mapping[str, str]] = {
    "server.adminport": "everything is served on server.port",
    "redis.minidleconns": "connections are opened when they are needed",
    "redis.writetimeout": "redis.readtimeout covers both directions",
    "queue.streamprefix": "queue.namespace is what key names start with",
    "queue.consumergroup": 'the group is always named "workers"',
    "queue.claimminidle": "worker.heartbeattimeout is the lease of a running task",
    "queue.recoveryinterval": "lost tasks are looked for about once a second",
    "queue.blocktimeout": "idle workers are woken when a task arrives",
}

#: Keys whose values are hidden wherever settings are shown.
SECRETS: Final = frozenset({"redis.password", "auth.jwtsecret", "auth.apikeys"})

_RENAMED: Final = {"worker.lease": "worker.heartbeattimeout", "events.maxlength": "events.maxlen"}
_HIDDEN: Final = "(hidden)"
#: Variables that Kubernetes makes in every pod for a service called taskqueue or taskqueue-....
_SERVICE_LINK: Final = re.compile(
    r"TASKQUEUE_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_LINK_VALUE: Final = re.compile(r"(tcp|udp|sctp)://.*")


def _find_attributes() -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, info in Settings.model_fields.items():
        if isinstance(info.default, Section):
            for attribute in type(info.default).model_fields:
                key = f"{name}.{_plain(attribute.removesuffix('_seconds'))}"
                yield _RENAMED.get(key, key), (name, attribute)
        else:
            yield _plain(name), (name,)


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


#: Key -> the attributes that lead to its value, in the order of ``settings.py``.
KEYS: Final[Mapping[str, tuple[str, ...]]] = dict(_find_attributes())

_ACCEPTED: Final = (*KEYS, *REPLACED)
_BY_VARIABLE: Final = {key.replace(".", ""): key for key in _ACCEPTED}
_SECTIONS: Final = frozenset(path[0] for path in KEYS.values() if len(path) > 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSettings:
    """Settings, where each key's value came from, and what the user should be told once.

    An origin is ``default``, ``file PATH``, ``environment NAME`` or ``flag --NAME``.
    """

    settings: Settings
    origins: Mapping[str, str]
    warnings: Sequence[str]


@dataclass(slots=True)
class _Sources:
    """What the sources said so far; a later source replaces an earlier one's value."""

    values: dict[str, object] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def take(self, found: Iterable[tuple[str, object, str]]) -> None:
        """Add one source: (name, value, origin), the value ``None`` when it says nothing."""
        seen: dict[str, object] = {}
        for name, value, origin in found:
            key = _plain(name)
            if key not in _ACCEPTED:
                self.problems.append(f"{origin}: unknown setting {name}, {_suggest(key)}")
            elif value is None:
                continue
            elif key in REPLACED:
                self.warnings.append(f"{key} ({origin}) has no effect: {REPLACED[key]}")
            else:
                if seen.setdefault(key, value) != value:
                    self.problems.append(f"{key} is set twice: {self.origins[key]} and {origin}")
                self.values[key], self.origins[key] = value, origin


def _suggest(name: str) -> str:
    close = difflib.get_close_matches(name.removeprefix(_plain(PREFIX)), _ACCEPTED, n=1)
    return f"did you mean {close[0]}?" if close else "`taskqueue config show` lists all keys"


def load_settings(
    *,
    config_file: Path | None = None,
    environ: Mapping[str, str],
    flags: Mapping[str, object] = {},
    search: Sequence[Path] = SEARCH,
) -> LoadedSettings:
    """Return the settings of this process.

    ``flags`` maps keys to the values given on the command line, ``None`` meaning "not given". A
    child that got its environment from ``child_environ`` passes ``search=()``.

    Raises:
        SettingsError: a file that cannot be read, an unknown name, a value that breaks a rule.
            The message has one line for each.
    """
    sources = _Sources()
    path = config_file or next((place for place in search if place.is_file()), None)
    if path is not None:
        sources.take(_from_file(path, sources.problems))
    sources.take(_from_environ(environ, sources.warnings))
    sources.take((name, value, f"flag {_flag(name)}") for name, value in flags.items())
    settings = _validate(sources)
    if settings is None or sources.problems:
        raise SettingsError("\n".join(sources.problems))
    origins = {key: sources.origins.get(key, "default") for key in KEYS}
    return LoadedSettings(settings=settings, origins=origins, warnings=sources.warnings)


def _from_file(path: Path, problems: list[str]) -> Iterator[tuple[str, object, str]]:
    origin = f"file {path}"
    for name, value in _read(path).items():
        if isinstance(value, dict) and value and _plain(name) not in KEYS:
            yield from ((f"{name}.{inner}", setting, origin) for inner, setting in value.items())
        elif _plain(name) not in _SECTIONS:
            yield name, value, origin
        elif value:
            problems.append(f"{origin}: {name} should be a section with settings in it")


def _from_environ(
    environ: Mapping[str, str], warnings: list[str]
) -> Iterator[tuple[str, object, str]]:
    links = 0
    for name, value in environ.items():
        if not name.upper().startswith(PREFIX):
            continue
        if _is_service_link(name, value):
            links += 1
            continue
        squeezed = _plain(name[len(PREFIX) :])
        yield _BY_VARIABLE.get(squeezed, name), value, f"environment {name}"
    if links:
        warnings.append(
            f"ignored {links} {PREFIX}* variables that Kubernetes made for a service: set "
            "enableServiceLinks: false in the pod"
        )


def _is_service_link(name: str, value: str) -> bool:
    if _SERVICE_LINK.fullmatch(name):
        return True
    return name.endswith("_PORT") and _LINK_VALUE.fullmatch(value) is not None


def _flag(key: str) -> str:
    """Return the command line's name of a setting: its section is said only where it must be."""
    path = KEYS.get(_plain(key), (key,))
    parts = path[1:] if path[0] in {"server", "worker", "queue"} else path
    return "--" + "-".join(parts).removesuffix("_seconds").replace("_", "-")


class _UniqueKeys(yaml.SafeLoader):
    """A loader that refuses a name given twice, where YAML keeps the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 -- PyYAML's signature
        """Return the mapping of ``node``."""
        seen: set[str] = set()
        for child in (child for child, _ in node.value if isinstance(child, yaml.ScalarNode)):
            if child.value in seen:
                problem = f"{child.value} is there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, child.start_mark)
            seen.add(child.value)
        return super().construct_mapping(node, deep)


def _read(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as stream:
            content = yaml.load(stream, _UniqueKeys)  # noqa: S506 -- it is a SafeLoader
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        # What the message quotes may be the beginning of a password that was not put in quotes.
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "a character or a value it cannot hold"
        problem = re.sub(r"'[\w!].*'", "'...'", problem)
        raise SettingsError(f"{path}{line} is no valid YAML: {problem}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"{path} should hold sections such as `server:` with settings in them")
    return {str(name): value for name, value in content.items()}


def _validate(sources: _Sources) -> Settings | None:
    nested: dict[str, Any] = {}
    for key, value in sources.values.items():
        *section, attribute = KEYS[key]
        target = nested.setdefault(section[0], {}) if section else nested
        target[attribute] = value
    try:
        return Settings.model_validate(nested)
    except ValidationError as error:
        for item in error.errors(include_url=False, include_context=False, include_input=False):
            path = tuple(str(part) for part in item["loc"])
            sources.problems.append(_explain(path, item["type"], item["msg"], sources))
        return None


def _explain(path: tuple[str, ...], kind: str, message: str, sources: _Sources) -> str:
    """Return one sentence about a broken rule: the key, the rule, the value and its origin."""
    rule = re.sub(r"^(Value error, |Input |String |Tuple |Dictionary )", "", message)
    if kind == "string_type":
        rule = "should be text (in YAML, put it in quotes)"
    key = next((key for key, attributes in KEYS.items() if attributes == path[:2]), None)
    key = key or next((key for key, attributes in KEYS.items() if attributes == path[:1]), None)
    if key is None:  # a rule between settings, which names them itself
        named = [name for name in KEYS if name in rule]
        origins = ", ".join(f"{name}: {sources.origins.get(name, 'default')}" for name in named)
        return f"{rule} ({origins})"
    is_hidden = key in SECRETS or key == "redis.url"
    got = "" if is_hidden else f", got {reprlib.repr(sources.values[key])}"
    return f"{key} {rule}{got} ({sources.origins[key]})"


def describe(loaded: LoadedSettings) -> list[tuple[str, str, str]]:
    """Return (key, value, origin) of every setting for people to read, secrets hidden."""
    rows = []
    for key, path in KEYS.items():
        value = _value(loaded.settings, path)
        text = _text(value).removesuffix(".0") if isinstance(value, float) else _text(value)
        if path[-1].endswith("_seconds"):
            text = format_duration(value)
        elif key in SECRETS:
            text = _HIDDEN if value else ""
        elif key == "redis.url":
            text = redact_url(text)
        rows.append((key, text, loaded.origins[key]))
    return rows


def settings_to_environ(settings: Settings) -> dict[str, str]:
    """Return the variables from which ``load_settings`` makes equal settings, secrets included."""
    return {
        PREFIX + key.upper().replace(".", "_"): _text(_value(settings, path))
        for key, path in KEYS.items()
    }


def child_environ(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a child process: ``environ`` with exactly these settings.

    Variables of the same settings in another spelling are taken out: they would contradict.
    """
    others = {name: value for name, value in environ.items() if not name.upper().startswith(PREFIX)}
    return others | settings_to_environ(settings)


def _value(settings: Settings, path: tuple[str, ...]) -> Any:
    value: Any = settings
    for attribute in path:
        value = getattr(value, attribute)
    return value


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, Mapping):
        return ",".join(f"{name}={chosen}" for name, chosen in value.items())
    return str(value)
