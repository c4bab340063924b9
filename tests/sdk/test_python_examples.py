"""What the README and the examples of the Python client show is run, against a live service."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from live_service import API_KEY, LiveService

from taskqueue_client import TaskQueueClient

ROOT = Path(__file__).parents[2]
README = ROOT / "clients" / "python" / "README.md"
EXAMPLES = ROOT / "examples" / "python"
#: What each example says, in order.
SAID = {
    "submit": (
        r"submitted \S+: pending, high",
        r"submitted once: True",
        r"batch: 10 accepted, 0 refused",
    ),
    "scheduled": (r"\S+ is scheduled", r"completed, started \d+ ms after its time"),
    "wait": (
        r"the result is \{.*499999500000.*\}",
        r"no result: dead_letter, no luck",
        r"20 results, the last: \{'number': 19\}",
    ),
    "events": (r"submitted \S+", r"completed \S+ in \d+ ms", r"all completed; .*since=\S+"),
    "cancel": (
        r"waiting: cancelled",
        r"not without asking: .+",
        r"running: cancelled",
    ),
    "dead_letters": (
        r"\S+ is dead_letter",
        r"1 of type fail died of: mail server is down",
        r"\S+ at .+: max_retries",
        r"attempt 1 failed by \S+: mail server is down",
        r"replayed: 2 deliveries, still down",
        r"1 would be replayed",
    ),
}


def snippets() -> list[str]:
    """Return the Python code of the README, block by block."""
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_readme_runs(service: LiveService, capsys: pytest.CaptureFixture[str]) -> None:
    """Every snippet, one after the other, as somebody who reads it would type it."""
    found = snippets()
    numbers = re.findall(r"^# (\d+)\. ", "".join(found), re.MULTILINE)
    assert numbers == [str(number) for number in range(1, 11)]
    names: dict[str, Any] = {"__name__": "readme"}
    for snippet in found:
        code = snippet.replace("http://127.0.0.1:8080", service.url)
        exec(compile(code.replace("your-api-key", API_KEY), README, "exec"), names)
    client = names["client"]
    assert isinstance(client, TaskQueueClient)
    client.close()
    printed = capsys.readouterr().out
    assert "'echoed': {'message': 'Hello, World!'}" in printed
    assert "404 Not Found" in printed
    assert "dead_letter no luck" in printed


def test_every_example_is_run() -> None:
    """Those below, and there is no other."""
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SAID)


@pytest.mark.parametrize("name", SAID)
def test_an_example_runs(service: LiveService, name: str) -> None:
    """It does what it says, and complains about nothing."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", service.url, API_KEY],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = iter(done.stdout.splitlines())
    for wanted in SAID[name]:
        assert any(re.fullmatch(wanted, line) for line in lines), (wanted, done.stdout)
