"""Credentials: recognise a secret variable, and hide the values of variables in a text. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

_NAME = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|COOKIE|DSN|(^|_)(AUTH|PAT|PWD)(_|$)", re.IGNORECASE)
_LOGIN_IN_URL = re.compile(r"://[^/@\s]*:[^/@\s]*@")


def is_secret(name: str, value: str = "") -> bool:
    """Return whether the variable is a credential, by its name or by a password in a URL."""
    return bool(_NAME.search(name) or _LOGIN_IN_URL.search(value))


def hide_values(text: str, values: Mapping[str, str]) -> str:
    """Return the text with ``$NAME`` for each whole value in it.

    A value of fewer than 4 characters stays: it is in too many words by chance.
    """
    for name, value in sorted(values.items(), key=lambda pair: len(pair[1]), reverse=True):
        if len(value) > 3 and value in text:
            text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", lambda _, name=name: f"${name}", text)  # type: ignore[misc]
    return text
