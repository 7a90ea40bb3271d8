"""Credentials: recognise a secret variable by its name, or by a password in its value. Pure."""

from __future__ import annotations

import re

_NAME = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|COOKIE|DSN|(^|_)(AUTH|PAT|PWD)(_|$)", re.IGNORECASE)
_LOGIN_IN_URL = re.compile(r"://[^/@\s]*:[^/@\s]*@")


def is_secret(name: str, value: str = "") -> bool:
    """Return whether the variable is a credential, by its name or by a password in a URL."""
    return bool(_NAME.search(name) or _LOGIN_IN_URL.search(value))
