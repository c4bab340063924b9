"""Whether a server may start as its settings have it: open on purpose only."""

from __future__ import annotations

import ipaddress
from typing import Final

from taskqueue_core.errors import SettingsError
from taskqueue_core.settings import Settings

#: Shortest secret for tokens, in bytes: as long as their signature.
MIN_SECRET_BYTES: Final = 32


def check_auth_settings(settings: Settings, *, is_open_on_purpose: bool = False) -> None:
    """Refuse settings under which the service would be open by mistake, or easy to open.

    Raises:
        SettingsError: the message holds the fix.
    """
    auth, host = settings.auth, settings.server.host
    length = len(auth.jwt_secret.encode())
    if auth.enabled and 0 < length < MIN_SECRET_BYTES:
        raise SettingsError(
            f"auth.jwtsecret has {length} bytes, but tokens signed with less than "
            f"{MIN_SECRET_BYTES} can be forged: set a random one, or none"
        )
    if not auth.enabled and not is_open_on_purpose and not _is_loopback(host):
        raise SettingsError(
            f"server.host is {host}, which others can reach, and auth.enabled is off: turn it on "
            "and list auth.apikeys, or pass --insecure-no-auth"
        )


def has_credentials(settings: Settings) -> bool:
    """Tell whether the settings themselves let somebody in, once authentication is on."""
    return bool(settings.auth.api_keys or settings.auth.jwt_secret)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
