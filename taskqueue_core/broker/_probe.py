"""Asking a unix socket who is there, in one round trip and without a Redis client."""

from __future__ import annotations

import contextlib
import enum
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from taskqueue_core.errors import BrokerUnavailableError

PROBE_TIMEOUT_SECONDS: Final = 1.0


class Presence(enum.Enum):
    """What a look at the socket found."""

    ABSENT = "nobody listens"
    SILENT = "it does not answer"
    LOADING = "it is still loading its data"
    READY = "it answers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """The answer of one look; ``pid`` and ``tcp_port`` are 0 when they are not known."""

    presence: Presence
    pid: int = 0
    tcp_port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the broker of one data directory listens, and the password it wants, if any."""

    socket_path: Path
    password: str | None

    @property
    def credentials(self) -> str:
        return f":{self.password}@" if self.password else ""

    @property
    def url(self) -> str:
        return f"unix://{self.credentials}{quote(str(self.socket_path))}?db=0"


def look(address: Address) -> Sighting:
    """Ask the broker at ``address`` for its state; takes at most a second or two.

    Raises:
        BrokerUnavailableError: a broker is there that wants another password.
    """
    hello = f"AUTH {address.password}\r\n" if address.password else ""
    answer = b""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PROBE_TIMEOUT_SECONDS)
        try:
            connection.connect(str(address.socket_path))
        except (FileNotFoundError, ConnectionRefusedError):
            return Sighting(presence=Presence.ABSENT)
        except OSError:
            return Sighting(presence=Presence.SILENT)
        with contextlib.suppress(OSError):
            connection.sendall(f"{hello}INFO server\r\nPING\r\n".encode())
            # The section is over once a one-line reply, the one to PING, follows it.
            while not re.search(rb"\r\n[+-][^\r\n]*\r\n$", answer):
                chunk = connection.recv(4096)
                if not chunk:
                    break
                answer += chunk
    return _interpret(answer, address)


def _interpret(answer: bytes, address: Address) -> Sighting:
    if answer.startswith((b"-NOAUTH", b"-WRONGPASS")):
        raise BrokerUnavailableError(
            f"the broker at {address.socket_path} wants another password than broker.password "
            "beside its data holds: stop it and start again"
        )
    fields = dict(re.findall(rb"^(process_id|tcp_port):(\d+)", answer, re.MULTILINE))
    if b"process_id" not in fields:
        return Sighting(presence=Presence.SILENT)
    return Sighting(
        presence=Presence.LOADING if b"-LOADING" in answer else Presence.READY,
        pid=int(fields[b"process_id"]),
        tcp_port=int(fields.get(b"tcp_port", 0)),
    )
