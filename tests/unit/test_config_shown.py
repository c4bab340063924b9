"""How settings are shown, documented and handed to child processes; secrets stay hidden."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from taskqueue_core.config import (
    KEYS,
    SECRETS,
    LoadedSettings,
    Settings,
    child_environ,
    describe,
    load_settings,
    settings_to_environ,
)
from taskqueue_core.errors import SettingsError
from taskqueue_core.settings import QueueSettings

EXAMPLE = Path(__file__).parents[2] / "examples" / "config.yaml"


def load(environ: Mapping[str, str], *, file: Path | None = None) -> LoadedSettings:
    return load_settings(config_file=file, environ=environ, search=())


@pytest.fixture
def write(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


SECRET_ENVIRON = {
    "TASKQUEUE_REDIS_URL": "rediss://user:hush1@host:6380/0?password=hush2",
    "TASKQUEUE_REDIS_PASSWORD": "hush3",
    "TASKQUEUE_AUTH_JWTSECRET": "hush4",
    "TASKQUEUE_AUTH_APIKEYS": "hush5,hush6",
}


def test_secrets_are_in_no_repr_and_no_description() -> None:
    loaded = load(SECRET_ENVIRON)
    assert loaded.settings.auth.api_keys == ("hush5", "hush6")
    rows = {key: value for key, value, _ in describe(loaded)}
    assert {rows[key] for key in SECRETS} == {"(hidden)"}
    assert rows["redis.url"] == "rediss://***@host:6380/0?password=***"
    for text in (repr(loaded), str(loaded.settings), repr(loaded.settings.redis), str(rows)):
        assert "hush" not in text


@pytest.mark.parametrize(
    "content",
    [
        "auth: {apikeys: [hush 1]}",
        "auth: {jwtsecret: [hush]}",
        "redis: {password: [hush]}",
        "redis: {url: [hush]}",
        "redis: {password: hush: hush}",
        "redis: {password: *hush}",
        "redis: {password: !hush x}",
        "redis:\n  password: %hush",
    ],
)
def test_a_mistake_in_a_secret_does_not_show_it(write: Path, content: str) -> None:
    write.write_text(content)
    with pytest.raises(SettingsError) as caught:
        load({}, file=write)
    assert "hush" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_description_lists_every_setting_with_its_origin() -> None:
    rows = describe(load({"TASKQUEUE_QUEUE_RETRYMAXBACKOFF": "90"}))
    assert [key for key, _, _ in rows] == list(KEYS)
    assert ("queue.retrymaxbackoff", "1m30s", "environment TASKQUEUE_QUEUE_RETRYMAXBACKOFF") in rows
    assert ("queue.taskretentiondays", "7", "default") in rows
    assert ("metrics.enabled", "true", "default") in rows
    assert ("auth.jwtsecret", "", "default") in rows
    assert ("redis.url", "", "default") in rows


def test_a_child_gets_exactly_the_same_settings(write: Path) -> None:
    """Odd floats, empty texts and secrets survive the way through the environment."""
    write.write_text(
        "queue: {retry_jitter_factor: 0.1234567890123456, retry_initial_backoff: 0.00001}\n"
        "worker: {queues: [a, b], id: w-1}\nplugins: {disabled: [x], prefer: {email: fast}}\n"
        "redis: {password: ' a,b=c '}\ndatadir: /var/lib/some where\nmetrics: {enabled: false}\n"
    )
    settings = load(SECRET_ENVIRON | {"TASKQUEUE_REDIS_PASSWORD": " a=b "}, file=write).settings
    assert load(settings_to_environ(settings)).settings == settings
    assert load(settings_to_environ(Settings())).settings == Settings()


def test_a_childs_environment_holds_no_other_spelling() -> None:
    settings = Settings(queue=QueueSettings(retry_max_attempts=7))
    inherited = {"PATH": "/bin", "TASKQUEUE_QUEUE_RETRY_MAX_ATTEMPTS": "1", "taskqueue_x": "1"}
    environ = child_environ(settings, inherited)
    assert environ["PATH"] == "/bin"
    assert load(environ).settings == settings


def test_the_example_file_holds_every_setting_with_its_default() -> None:
    content = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    keys = [
        f"{name}.{inner}" if inner else name
        for name, value in content.items()
        for inner in (value if isinstance(value, dict) else [""])
    ]
    assert keys == list(KEYS)
    loaded = load_settings(config_file=EXAMPLE, environ={})
    assert loaded.settings == Settings()
    assert loaded.warnings == []


def test_the_example_file_explains_every_setting() -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    for before, line in pairwise(lines):
        is_setting = line.rstrip().removesuffix(":") == line and ":" in line
        if is_setting and not line.lstrip().startswith("#"):
            assert before.lstrip().startswith("# "), line
