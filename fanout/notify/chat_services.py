"""Services: the addresses of chats and mail in notify.toml, and how a message reaches them through Apprise.

An address contains a token, so it comes from a file that only the user can read, or from the environment. It reaches the
sending process on its standard input, never on its command line.
"""

from __future__ import annotations

import importlib.util
import json
import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from fanout.model.errors import UsageError
from fanout.notify.message import RunMessage
from fanout.text.suggest import find_nearest

FROM_ENVIRONMENT = "env"
VARIABLE = "FANOUT_NOTIFY_URL"
SEND_SECONDS = 45.0
LEAST_SECONDS = 300.0  # age of the run: a shorter one is watched by its user


def find_service_file(environ: Mapping[str, str]) -> str:
    """Return the path of notify.toml."""
    base = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME", "/"), ".config")
    return os.path.join(base, "fanout", "notify.toml")


def read_addresses(name: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the addresses of an entry. Raises UsageError if there is none, or if others could read the file."""
    if importlib.util.find_spec("apprise") is None:
        raise UsageError("--notify needs Apprise", hint="uv tool install 'fanout-launcher[notify]'")
    if name == FROM_ENVIRONMENT:
        if not environ.get(VARIABLE):
            raise UsageError(f"--notify {name}: ${VARIABLE} is not set", hint=f"export {VARIABLE}=ntfy://TOPIC")
        return (environ[VARIABLE],)
    path = find_service_file(environ)
    entries = _read_service_file(path)
    if name not in entries:
        near = find_nearest(name, entries)
        known = ", ".join(entries) or "none"
        raise UsageError(
            f"--notify {name}: {path} has no such entry; it has {known}", hint=f"--notify {near[0]}" if near else ""
        )
    return entries[name]


def list_entries(environ: Mapping[str, str]) -> list[str]:
    """Return the names of the entries of notify.toml, and ``env`` if the variable is set. Raises UsageError."""
    path = find_service_file(environ)
    names = list(_read_service_file(path)) if os.path.exists(path) else []
    return names + ([FROM_ENVIRONMENT] if environ.get(VARIABLE) else [])


def _read_service_file(path: str) -> dict[str, tuple[str, ...]]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    example = f"write it:  (umask 077; printf '[phone]\\nurl = \"ntfy://TOPIC\"\\n' > {path})"
    try:
        with open(path, "rb") as file:
            info = os.fstat(file.fileno())
            if stat.S_IMODE(info.st_mode) & 0o077 or info.st_uid != os.getuid():
                raise UsageError(f"{path} contains tokens, and others can read it", hint=f"chmod 600 {path}")
            table: dict[str, Any] = tomllib.load(file)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", hint=example) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}", hint=example) from None
    return {name: _parse_entry(path, name, entry) for name, entry in table.items()}


def _parse_entry(path: str, name: str, entry: Any) -> tuple[str, ...]:
    urls = entry.get("url") if isinstance(entry, dict) else None
    urls = [urls] if isinstance(urls, str) else urls
    if not isinstance(urls, list) or not urls or not all(isinstance(url, str) for url in urls):
        raise UsageError(f"{path}: entry {name} has no url", hint=f'[{name}]\n        url = "ntfy://TOPIC"')
    return tuple(urls)


def is_worth_sending(message: RunMessage) -> bool:
    """Return whether a person wants this message: not the start, and nothing of a run of less than five minutes."""
    return message.event != "started" and message.seconds >= LEAST_SECONDS


def send_to_services(addresses: tuple[str, ...], title: str, text: str) -> str:
    """Send a text in a process of its own; return why it failed, or ""."""
    order = json.dumps({"urls": addresses, "title": title, "text": text})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "fanout.notify.send_message"],
            input=order,
            capture_output=True,
            text=True,
            timeout=SEND_SECONDS,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        return f"no answer for {SEND_SECONDS:.0f} s"
    except OSError as error:
        return f"cannot start: {error.strerror}"
    last = (done.stdout.strip().splitlines() or [f"exit {done.returncode}"])[-1]
    return "" if done.returncode == 0 else last
