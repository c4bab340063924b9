"""Whether a server may start as its settings have it: open, or closed, on purpose only."""

from __future__ import annotations

import ipaddress

from taskqueue_core.errors import SettingsError
from taskqueue_core.settings import Settings


def check_auth_settings(settings: Settings, *, is_open_on_purpose: bool = False) -> None:
    """Refuse settings under which the service would be open, or closed, by mistake.

    Raises:
        SettingsError: the message holds the fix.
    """
    auth, host = settings.auth, settings.server.host
    if auth.jwt_secret:
        raise SettingsError(
            "auth.jwtsecret is set, but this release knows no JWT: unset it and list API keys in "
            "auth.apikeys"
        )
    if auth.enabled and not auth.api_keys:
        raise SettingsError("auth.enabled is on without any key: list at least one in auth.apikeys")
    if not auth.enabled and not is_open_on_purpose and not _is_loopback(host):
        raise SettingsError(
            f"server.host is {host}, which others can reach, and auth.enabled is off: turn it on "
            "and list auth.apikeys, or pass --insecure-no-auth"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
