"""The tests' words for a reading: a hostfile's text in, the hosts as one line each (or the refusal) out."""

from __future__ import annotations

from fanout.hostfile import dump_hostfile, parse_hostfile
from fanout.model.errors import HostfileError


def read(text: str, file: str = "hosts.txt") -> list[str]:
    """The hosts, each as the plain line that says all of it."""
    return dump_hostfile(parse_hostfile(text.encode(), file=file)).splitlines()


def refusal(text: str | bytes, file: str = "hosts.txt") -> str:
    """The message; fails if the text is read."""
    data = text if isinstance(text, bytes) else text.encode()
    try:
        found = parse_hostfile(data, file=file)
    except HostfileError as error:
        return str(error)
    raise AssertionError(f"read as {dump_hostfile(found)!r}")
