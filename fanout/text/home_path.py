"""Paths of the user's home directory, in short."""

from __future__ import annotations

import os


def shorten_home(path: str) -> str:
    """Return the path with ``~`` for the home directory."""
    home = os.path.expanduser("~")
    return "~" + path[len(home) :] if home != "/" and path.startswith(home + os.sep) else path
