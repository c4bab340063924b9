"""The plugin host: what is found, what fails alone, who wins a task type."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from taskqueue_core.errors import PluginError
from taskqueue_core.models import HandlerInfo
from taskqueue_core.plugin import (
    PluginHost,
    PluginRecord,
    PluginState,
    TaskContext,
    handler,
)

Install = Callable[..., str]

MAIL = """
@handler("email", timeout=30, queue="mail")
def email(ctx, payload): return "sent"
"""
GOOD = """
@handler("good")
def good(ctx, payload): ...
"""


def records_of(host: PluginHost) -> dict[str, PluginRecord]:
    """Key the records by distribution; what else is installed here does not matter."""
    return {record.distribution: record for record in host.records}


def test_module_offers_its_handlers(install: Install) -> None:
    """Every handler at module level is found, with the distribution that brought it."""
    install("mailer", MAIL + GOOD + "again = good\n", version="1.2")
    host = PluginHost.load()
    record = records_of(host)["mailer"]
    assert (record.name, record.version, record.state) == ("main", "1.2", PluginState.LOADED)
    assert record.handlers == ("email", "good")
    assert record.error == ""
    assert record.load_ms > 0
    email = host.get("email")
    assert email is not None
    assert email(TaskContext(id="1", type="email"), {}) == "sent"
    assert host.get("nobody") is None
    assert host.infos()["email"] == HandlerInfo(
        queue="mail",
        timeout_seconds=30,
        distribution="mailer",
        version="1.2",
        executor="thread",
    )


def test_entry_point_may_name_a_handler(install: Install) -> None:
    """Naming one function of a module leaves the others out."""
    install("mailer", MAIL + GOOD, entry_points="main = {module}:email")
    assert records_of(PluginHost.load())["mailer"].handlers == ("email",)


def test_entry_point_may_name_an_object_with_hooks(install: Install) -> None:
    """An object's registration hook offers handlers that are computed."""
    source = """
    class Plugin:
        @hookimpl
        def taskqueue_register_handlers(self, register):
            for name in ("resize", "crop"):
                register(handler(name)(lambda ctx, payload: None))
    plugin = Plugin()
    """
    install("images", source, entry_points="main = {module}:plugin")
    assert records_of(PluginHost.load())["images"].handlers == ("crop", "resize")


def test_records_are_sorted(install: Install) -> None:
    """The order is that of the distributions' names, then the entry points', not of the path."""
    install("zeta", GOOD)
    install("Alpha", MAIL, entry_points="two = {module}\none = {module}")
    records = PluginHost.load().records
    names = [(r.distribution, r.name) for r in records if r.distribution in ("Alpha", "zeta")]
    assert names == [("Alpha", "one"), ("Alpha", "two"), ("zeta", "main")]


def test_handler_offered_by_two_entry_points_is_no_clash(install: Install) -> None:
    """One and the same handler may be reached in two ways."""
    install("mailer", MAIL, entry_points="all = {module}\nemail = {module}:email")
    assert PluginHost.load().get("email") is not None


REGISTER = "@hookimpl\ndef taskqueue_register_handlers(register): "
BROKEN = {
    "import error": ("import nothing_of_that_name", "ModuleNotFoundError: No module named"),
    "exit at import": ("raise SystemExit(3)", "SystemExit: 3"),
    "wrong hook argument": (
        "@hookimpl\ndef taskqueue_worker_started(wrong): ...",
        "are declared in the hookimpl but can not be found in the hookspec",
    ),
    "misspelt hook": ("@hookimpl\ndef taskqueue_worker_strated(): ...", "taskqueue_worker_strated"),
    "hook wrapper": (
        "@hookimpl(wrapper=True)\ndef taskqueue_worker_started(): yield",
        "is a hook wrapper: make it a plain hookimpl",
    ),
    "async hook": ("@hookimpl\nasync def taskqueue_worker_started(): ...", "hooks are plain"),
    "registration raises": (REGISTER + "1 / 0", "ZeroDivisionError: division by zero"),
    "not a handler": (REGISTER + "register(print)", "register() takes handlers, got <built-in"),
    "bad task type": ('@handler("no type")\ndef f(ctx, payload): ...', "'no type' is no task type"),
    "bad signature": ('@handler("x")\ndef f(payload): ...', "the signature is (ctx, payload)"),
    "unknown annotation": ('@handler("x")\ndef f(ctx, payload: "Gone"): ...', "'Gone' is not def"),
    "two of one type": (
        GOOD + "first = good\n" + GOOD,
        'it has two handlers for task type "good"',
    ),
    "nothing at all": ("def email(ctx, payload): ...", "has no handler and no hook"),
    "API too new": ("TASKQUEUE_API = (1, 1)", "upgrade taskqueue-service, or install an older"),
    "API too new, major": ("TASKQUEUE_API = (2, 0)", "needs plugin API 2.0, this taskqueue-serv"),
    "API too old": ("TASKQUEUE_API = (0, 9)", "upgrade the plugin"),
    "API malformed": ("TASKQUEUE_API = '1.0'", "TASKQUEUE_API is (major, minor), got '1.0'"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_plugin_fails_alone(install: Install, case: str) -> None:
    """Whatever is wrong with one plugin is told in its record; the others load."""
    source, message = BROKEN[case]
    install("broken", source)
    install("working", MAIL)
    host = PluginHost.load()
    record = records_of(host)["broken"]
    assert (record.state, record.handlers) == (PluginState.FAILED, ())
    assert message in record.error
    assert host.get("email") is not None


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("main = {module}:gone", "AttributeError"),
        ("main = {module}:Plugin", "Plugin is a class: name an instance of it"),
        ("main = {module}:number", "has no handler and no hook"),
        ("a line that is none", "its entry_points.txt cannot be read"),
        ("main = {module}:not/a/name", "AttributeError"),
    ],
)
def test_wrong_entry_point_fails_alone(install: Install, target: str, message: str) -> None:
    """An entry point that names nothing useful is a failed plugin too."""
    install("broken", "number = 1\nclass Plugin: ...", entry_points=target)
    install("working", MAIL)
    host = PluginHost.load()
    assert message in records_of(host)["broken"].error
    assert host.get("email") is not None


def test_interrupt_at_import_is_the_users(install: Install) -> None:
    """Ctrl-C during a slow import stops the process, it is no fault of the plugin."""
    install("slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        PluginHost.load()


def test_matching_api_version_is_accepted(install: Install) -> None:
    """A plugin written for this version loads."""
    install("mailer", MAIL + "TASKQUEUE_API = (1, 0)")
    assert records_of(PluginHost.load())["mailer"].state is PluginState.LOADED


def test_strict_makes_a_failure_an_error(install: Install) -> None:
    """In strict mode no plugin may fail; the message names the distribution and the reason."""
    install("broken", "raise ValueError('boom')", version="3.0")
    with pytest.raises(PluginError, match=r"broken 3\.0 \(main\): ValueError: boom"):
        PluginHost.load(strict=True)


@pytest.mark.parametrize("name", ["My_Mailer", "my-mailer", "outbox"])
def test_disabled_plugin_is_not_imported(install: Install, name: str) -> None:
    """A distribution or entry point may be switched off by name; its code never runs."""
    module = install("my-mailer", MAIL, entry_points="outbox = {module}")
    host = PluginHost.load(disabled=[name], strict=True)
    assert records_of(host)["my-mailer"].state is PluginState.DISABLED
    assert host.get("email") is None
    assert module not in sys.modules


def test_two_plugins_cannot_claim_one_type(install: Install) -> None:
    """A clash stops the start and names both distributions and the way out."""
    install("a", MAIL)
    install("b", MAIL)
    expected = (
        r'task type "email" is claimed by both a 0\.1\.0 and b 0\.1\.0; '
        r'set plugins\.prefer to "email=a" or "email=b"'
    )
    with pytest.raises(PluginError, match=expected):
        PluginHost.load()


def test_two_entry_points_of_one_distribution_cannot_claim_one_type(install: Install) -> None:
    """A clash inside one distribution names its entry points: no preference could decide it."""
    source = (
        'one = handler("x")(lambda ctx, payload: 1)\ntwo = handler("x")(lambda ctx, payload: 2)'
    )
    install("a", source, entry_points="one = {module}:one\ntwo = {module}:two")
    with pytest.raises(PluginError, match=r'entry points "one" and "two" of a 0\.1\.0'):
        PluginHost.load()


def test_preference_decides_a_clash(install: Install) -> None:
    """The preferred distribution serves the type; the other keeps its remaining types."""
    install("a", MAIL + GOOD)
    install("b", MAIL)
    host = PluginHost.load(prefer={"email": "b"})
    assert host.infos()["email"].distribution == "b"
    assert host.infos()["good"].distribution == "a"


def test_preferred_but_broken_plugin_is_not_replaced(install: Install) -> None:
    """The tasks wait for the plugin that was chosen instead of running in another one."""
    install("a", MAIL)
    install("b", "raise ValueError")
    assert PluginHost.load(prefer={"email": "b"}).get("email") is None


def test_unknown_preference_is_an_error(install: Install) -> None:
    """A preference for a distribution that is not there is a mistake in the settings."""
    install("a", MAIL)
    with pytest.raises(PluginError, match='no plugin "c" is installed for "email"'):
        PluginHost.load(prefer={"email": "c"})


def test_host_of_plugins_at_hand() -> None:
    """Handlers need no distribution to make a host, for a test or a script."""
    one = handler("one")(lambda ctx, payload: 1)
    host = PluginHost.of(one)
    assert dict(host.handlers) == {"one": one}
    with pytest.raises(PluginError, match='task type "one" is claimed by'):
        PluginHost.of(one, handler("one")(lambda ctx, payload: 2))


def test_handlers_cannot_be_changed() -> None:
    """The host is what it found when it was made."""
    host = PluginHost.of(handler("one")(lambda ctx, payload: 1))
    with pytest.raises(TypeError):
        host.handlers["two"] = host.handlers["one"]  # type: ignore[index]


def test_unreadable_metadata_of_a_stranger_hides_nobody(install: Install, tmp_path: Path) -> None:
    """A file that is no UTF-8, in any installed distribution, costs only that distribution."""
    install("working", MAIL)
    install("stranger", "")
    (tmp_path / "stranger-0.1.0.dist-info" / "entry_points.txt").write_bytes(b"[x]\na = \xff\n")
    host = PluginHost.load()
    assert records_of(host)["stranger"].state is PluginState.FAILED
    assert host.get("email") is not None


def test_distribution_installed_twice_counts_once(install: Install, tmp_path: Path) -> None:
    """The first on the path wins, as for an import."""
    install("mailer", MAIL)
    twin = tmp_path / "mailer-0.2.0.dist-info"
    shutil.copytree(tmp_path / "mailer-0.1.0.dist-info", twin)
    (twin / "METADATA").write_text("Metadata-Version: 2.1\nName: Mailer\nVersion: 0.2.0\n")
    names = [r.distribution for r in PluginHost.load().records if r.name == "main"]
    assert len(names) == 1
