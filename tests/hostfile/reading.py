"""Helpers of the hostfile tests: text in, one line for each host (or the refusal) out."""

from __future__ import annotations

from fanout.hostfile import dump_hostfile, parse_hostfile
from fanout.model.errors import HostfileError


def read_lines(text: str, file: str = "hosts.txt") -> list[str]:
    """Return the hosts, each as its canonical plain line."""
    return dump_hostfile(parse_hostfile(text.encode(), file=file)).splitlines()


def read_refusal(text: str | bytes, file: str = "hosts.txt") -> str:
    """Return the message; fail if the text is accepted."""
    data = text if isinstance(text, bytes) else text.encode()
    try:
        found = parse_hostfile(data, file=file)
    except HostfileError as error:
        return str(error)
    raise AssertionError(f"read as {dump_hostfile(found)!r}")
