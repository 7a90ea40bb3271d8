"""Which variables hold a credential, by their name or by a password in their value. Pure."""

from __future__ import annotations

import re

_NAME = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|COOKIE|DSN|(^|_)(AUTH|PAT|PWD)(_|$)", re.IGNORECASE)
_LOGIN_IN_URL = re.compile(r"://[^/@\s]*:[^/@\s]*@")


def is_secret(name: str, value: str = "") -> bool:
    """Return whether the name, or a password in a URL, tells that the variable is a credential."""
    return bool(_NAME.search(name) or _LOGIN_IN_URL.search(value))
