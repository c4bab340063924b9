"""Where a setting's value comes from, and what a wrong one says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from taskqueue_core.config import (
    KEYS,
    REPLACED,
    LoadedSettings,
    Settings,
    load_settings,
)
from taskqueue_core.errors import SettingsError


def load(
    environ: Mapping[str, str] | None = None,
    *,
    file: Path | None = None,
    flags: Mapping[str, object] | None = None,
) -> LoadedSettings:
    return load_settings(config_file=file, environ=environ or {}, flags=flags or {}, search=())


def refusal(environ: Mapping[str, str] | None = None, *, file: Path | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load(environ, file=file)
    return str(caught.value)


@pytest.fixture
def write(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def test_nothing_given_means_the_defaults() -> None:
    loaded = load()
    assert loaded.settings == Settings()
    assert set(loaded.origins) == set(KEYS)
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.warnings == []


def test_a_flag_beats_the_environment_which_beats_the_file(write: Path) -> None:
    write.write_text("server: {port: 1, workers: 2, host: 127.0.0.3}\n")
    environ = {"TASKQUEUE_SERVER_PORT": "10", "TASKQUEUE_SERVER_WORKERS": "20"}
    loaded = load(environ, file=write, flags={"server.port": 100, "server.host": None})
    server = loaded.settings.server
    assert (server.port, server.workers, server.host) == (100, 20, "127.0.0.3")
    assert loaded.origins["server.port"] == "flag --port"
    assert loaded.origins["server.workers"] == "environment TASKQUEUE_SERVER_WORKERS"
    assert loaded.origins["server.host"] == f"file {write}"
    assert loaded.origins["server.maxbodybytes"] == "default"


@pytest.mark.parametrize(
    ("key", "flag"),
    [
        ("redis.url", "--redis-url"),
        ("loglevel", "--log-level"),
        ("worker.shutdowntimeout", "--shutdown-timeout"),
        ("queue.namespace", "--namespace"),
    ],
)
def test_the_origin_of_a_flag_is_its_name_on_the_command_line(key: str, flag: str) -> None:
    values = {"loglevel": "debug", "worker.shutdowntimeout": "3s", "redis.url": "redis://x"}
    value = values.get(key, "x")
    assert load(flags={key: value}).origins[key] == f"flag {flag}"


@pytest.mark.parametrize(
    "variable",
    [
        "TASKQUEUE_QUEUE_RETRYMAXATTEMPTS",
        "TASKQUEUE_QUEUE_RETRY_MAX_ATTEMPTS",
        "taskqueue_queue_retryMaxAttempts",
    ],
)
def test_a_variable_is_found_whatever_its_underscores_and_case(variable: str) -> None:
    loaded = load({variable: "9"})
    assert loaded.settings.queue.retry_max_attempts == 9
    assert loaded.origins["queue.retrymaxattempts"] == f"environment {variable}"


@pytest.mark.parametrize("spelling", ["retrymaxattempts", "retry_max_attempts", "RetryMaxAttempts"])
def test_a_file_key_is_found_whatever_its_underscores_and_case(write: Path, spelling: str) -> None:
    write.write_text(f"Queue:\n  {spelling}: 9\n")
    assert load(file=write).settings.queue.retry_max_attempts == 9


@pytest.mark.parametrize("variable", ["TASKQUEUE_LOGLEVEL", "TASKQUEUE_LOG_LEVEL"])
def test_settings_without_a_section_have_variables_too(variable: str) -> None:
    assert load({variable: "WARN"}).settings.log_level == "warning"


def test_no_two_settings_share_a_variable() -> None:
    names = [key.replace(".", "") for key in (*KEYS, *REPLACED)]
    assert len(set(names)) == len(names)


def test_lists_come_from_commas_or_from_yaml(write: Path) -> None:
    write.write_text("auth: {apikeys: [a, b]}\nplugins: {prefer: {email: mail-fast}}\n")
    loaded = load({"TASKQUEUE_WORKER_QUEUES": "mail, images,"}, file=write)
    assert loaded.settings.auth.api_keys == ("a", "b")
    assert loaded.settings.worker.queues == ("mail", "images")
    assert loaded.settings.plugins.prefer == {"email": "mail-fast"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("true", True), ("yes", True), ("1", True), ("false", False), ("off", False), ("0", False)],
)
def test_booleans_have_the_usual_words(text: str, *, expected: bool) -> None:
    assert load({"TASKQUEUE_AUTH_ENABLED": text}).settings.auth.enabled is expected


@pytest.mark.parametrize(
    ("variable", "suggestion"),
    [
        ("TASKQUEUE_QUEUE_RETRYMAXATEMPTS", "did you mean queue.retrymaxattempts?"),
        ("TASKQUEUE_QUEU_RETRYMAXATTEMPTS", "did you mean queue.retrymaxattempts?"),
        ("TASKQUEUE_SERVER_PROT", "did you mean server.port?"),
        ("TASKQUEUE_ZZZ", "`taskqueue config show` lists all keys"),
    ],
)
def test_an_unknown_variable_stops_the_start(variable: str, suggestion: str) -> None:
    message = refusal({variable: "1"})
    assert variable in message
    assert suggestion in message


@pytest.mark.parametrize(
    ("content", "suggestion"),
    [
        ("queue: {retrymaxatempts: 1}", "did you mean queue.retrymaxattempts?"),
        ("quue: {namespace: x}", "did you mean queue.namespace?"),
        ("loglevle: info", "did you mean loglevel?"),
        ("quue: {}", "unknown setting quue"),
        ("1: {}", "unknown setting 1"),
    ],
)
def test_an_unknown_key_in_the_file_stops_the_start(
    write: Path, content: str, suggestion: str
) -> None:
    write.write_text(content)
    message = refusal(file=write)
    assert suggestion in message
    assert f"file {write}" in message


def test_an_unknown_flag_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"did you mean server\.port\?"):
        load(flags={"server.prot": 1})


@pytest.mark.parametrize(
    ("variable", "value", "parts"),
    [
        ("SERVER_PORT", "70000", ["server.port", "less than or equal to 65535", "'70000'"]),
        ("SERVER_PORT", "", ["server.port", "valid integer"]),
        ("SERVER_HOST", "", ["server.host", "at least 1 character"]),
        ("DATADIR", "", ["datadir", "should name a directory"]),
        ("WORKER_CONCURRENCY", "0", ["worker.concurrency", "greater than or equal to 1"]),
        ("WORKER_QUEUES", "a b", ["worker.queues", "should match pattern"]),
        ("WORKER_ID", "a/b", ["worker.id", "should match pattern"]),
        ("WORKER_HEARTBEATTIMEOUT", "0", ["worker.heartbeattimeout", "greater than 0"]),
        ("QUEUE_NAMESPACE", "Prod", ["queue.namespace", "should match pattern"]),
        ("QUEUE_PARTITIONS", "257", ["queue.partitions", "less than or equal to 256"]),
        ("QUEUE_TASKRETENTIONDAYS", "0", ["queue.taskretentiondays", "greater than 0"]),
        ("QUEUE_RETRYBACKOFFFACTOR", "0.5", ["queue.retrybackofffactor", "equal to 1"]),
        ("QUEUE_RETRYJITTERFACTOR", "2", ["queue.retryjitterfactor", "equal to 1"]),
        ("QUEUE_RETRYMAXBACKOFF", "1e300", ["queue.retrymaxbackoff", "less than or equal"]),
        ("QUEUE_RETRYMAXBACKOFF", "soon", ["queue.retrymaxbackoff", "such as 30s", "'soon'"]),
        ("REDIS_ADDR", "redis://h:1", ["redis.addr", "host:port"]),
        ("REDIS_DB", "-1", ["redis.db", "greater than or equal to 0"]),
        ("METRICS_PATH", "metrics", ["metrics.path", "should match pattern"]),
        ("METRICS_ENABLED", "perhaps", ["metrics.enabled", "valid boolean"]),
        ("LOGLEVEL", "loud", ["loglevel", "'debug', 'info'", "'loud'"]),
        ("PLUGINS_PREFER", "email", ["plugins.prefer", "email=taskqueue-email"]),
    ],
)
def test_a_wrong_value_names_its_key_its_origin_and_the_rule(
    variable: str, value: str, parts: list[str]
) -> None:
    message = refusal({f"TASKQUEUE_{variable}": value})
    for part in [*parts, f"environment TASKQUEUE_{variable}"]:
        assert part in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("server: {port: true}", "server.port should be a number"),
        ("server: {port: 80.5}", "server.port should be a valid integer"),
        ("server: {readtimeout: true}", "server.readtimeout should be a duration"),
        ("queue: {retryjitterfactor: true}", "queue.retryjitterfactor should be a number"),
        ("queue: {namespace: 7}", "queue.namespace should be text (in YAML, put it in quotes)"),
        ("queue: 5", "queue should be a section"),
        ("server: {port: 1, port: 2}", "line 1 is no valid YAML: port is there twice"),
        ("queue: {maxqueues: 1, max_queues: 2}", "queue.maxqueues is set twice"),
        ("server: [", "is no valid YAML"),
        ("- server", "should hold sections"),
    ],
)
def test_a_file_with_a_mistake_is_refused(write: Path, content: str, part: str) -> None:
    write.write_text(content)
    assert part in refusal(file=write)


def test_all_mistakes_are_named_at_once(write: Path) -> None:
    write.write_text("server: {port: -1}\nquue: {}\n")
    message = refusal({"TASKQUEUE_REDIS_DB": "x"}, file=write)
    assert len(message.splitlines()) == 3


def test_two_spellings_of_a_variable_may_not_contradict() -> None:
    both = {"TASKQUEUE_LOGLEVEL": "info", "TASKQUEUE_LOG_LEVEL": "debug"}
    assert "loglevel is set twice" in refusal(both)
    assert load(dict.fromkeys(both, "debug")).settings.log_level == "debug"


def test_a_heartbeat_must_fit_twice_into_the_lease() -> None:
    message = refusal({"TASKQUEUE_WORKER_HEARTBEATINTERVAL": "8s"})
    assert "worker.heartbeatinterval (8s)" in message
    assert "lower the first to 7.5s or raise the second to 16s" in message
    assert "worker.heartbeatinterval: environment TASKQUEUE_WORKER_HEARTBEATINTERVAL" in message
    assert "worker.heartbeattimeout: default" in message
    assert load({"TASKQUEUE_WORKER_HEARTBEATINTERVAL": "7500ms"}).settings


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(file=tmp_path / "none.yaml")
    assert "cannot be read" in refusal(file=tmp_path)


def test_a_file_that_is_no_text_is_refused(write: Path) -> None:
    write.write_bytes(b"\xff\xfe\x00\xd8")
    assert "no valid YAML" in refusal(file=write)


@pytest.mark.parametrize("content", ["", "# nothing\n", "server:\n", "server: {port: }\n"])
def test_an_empty_file_or_section_says_nothing(write: Path, content: str) -> None:
    write.write_text(content)
    assert load(file=write).settings == Settings()


def test_the_first_file_found_is_read(tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("none.yaml", "first.yaml", "second.yaml")]
    places[1].write_text("loglevel: debug\n")
    places[2].write_text("loglevel: error\n")
    loaded = load_settings(environ={}, search=places)
    assert loaded.settings.log_level == "debug"
    assert loaded.origins["loglevel"] == f"file {places[1]}"


@pytest.mark.parametrize("key", REPLACED)
def test_a_key_of_older_files_is_accepted_with_one_warning(write: Path, key: str) -> None:
    section, name = key.split(".")
    write.write_text(f"{section}:\n  {name}: anything\n")
    loaded = load(file=write)
    assert loaded.settings == Settings()
    assert loaded.warnings == [f"{key} (file {write}) has no effect: {REPLACED[key]}"]


def test_variables_of_a_kubernetes_service_are_ignored_with_one_warning() -> None:
    links = {
        "TASKQUEUE_SERVICE_HOST": "10.0.0.1",
        "TASKQUEUE_SERVICE_PORT": "8080",
        "TASKQUEUE_SERVER_SERVICE_PORT_HTTP": "8080",
        "TASKQUEUE_SERVER_PORT": "tcp://10.0.0.1:8080",
        "TASKQUEUE_SERVER_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "TASKQUEUE_SERVER_PORT_8080_TCP_ADDR": "10.0.0.1",
    }
    loaded = load(links)
    assert loaded.settings == Settings()
    assert len(loaded.warnings) == 1
    assert "ignored 6" in loaded.warnings[0]
